//! The pages of the program itself. Most of them only a start needs: at rest they are most of what a server holds.

use std::io;
use std::ops::Range;
use std::time::Duration;

use coracle_clock::Clock;
use nix::libc;

/// How long after the start they are given back.
const AFTER: Duration = Duration::from_secs(3);

/// Gives the code and constants that the start has read back to the machine, once it is over. What is needed again is read
/// again from the file, and what other processes use stays.
pub async fn give_back_own_pages(clock: Clock) {
    clock.sleep(AFTER).await;
    match tokio::task::spawn_blocking(page_out).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the program's own pages stay in memory"),
        Err(error) => tracing::debug!(%error, "giving pages back was not ended"),
    }
}

fn page_out() -> io::Result<()> {
    let program = std::env::current_exe()?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    unchanging(&maps, &program.to_string_lossy()).try_for_each(page_out_range)
}

#[allow(unsafe_code)]
fn page_out_range(range: Range<usize>) -> io::Result<()> {
    // SAFETY: nobody writes to the range, so that the kernel reads pages that it has dropped from the file again when they are
    // touched. An address that is not mapped is an error.
    let result = unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_PAGEOUT) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The mappings of `program` that nobody may write to. Pure.
fn unchanging<'m>(maps: &'m str, program: &'m str) -> impl Iterator<Item = Range<usize>> + 'm {
    maps.lines().filter_map(move |line| {
        let (line, path) = line.split_at_checked(line.find('/')?)?;
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let unchanging = path == program && !fields.next()?.contains('w');
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(address(start)?..address(end)?).filter(|_| unchanging)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_constants_are_told_from_what_may_be_written_and_from_other_files() {
        let maps = "\
55d000000000-55d000a00000 r--p 00000000 fe:00 77   /usr/bin/coracle server
55d000a00000-55d003000000 r-xp 00a00000 fe:00 77   /usr/bin/coracle server
55d003000000-55d003200000 rw-p 03000000 fe:00 77   /usr/bin/coracle server
55d003200000-55d003300000 rw-p 00000000 00:00 0    [heap]
7f0000000000-7f0000100000 r-xp 00000000 fe:00 78   /lib/libc.so.6
nonsense
";
        let found: Vec<_> = unchanging(maps, "/usr/bin/coracle server").collect();
        assert_eq!(
            found,
            [0x55d0_0000_0000..0x55d0_00a0_0000, 0x55d0_00a0_0000..0x55d0_0300_0000]
        );
    }

    #[test]
    fn the_program_goes_on_after_its_pages_are_gone() {
        page_out().unwrap();
        assert_eq!(unchanging("", "x").count(), 0);
    }
}
