//! Messages with file descriptors over a unix socket, without ever waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Sends one whole frame. A peer that does not read is an error: its buffer holds hundreds of frames.
pub(crate) fn send(stream: &impl AsRawFd, frame: &[u8], descriptors: &[&OwnedFd]) -> io::Result<()> {
    let raw: Vec<i32> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let control: &[ControlMessage<'_>] = &[ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[] } else { control };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(frame)], control, flags, None)?;
    if sent != frame.len() {
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "the peer does not read"));
    }
    Ok(())
}

/// Receives what is there. `Ok(None)` when nothing is, `Some(0)` at the end.
pub(crate) fn receive(
    stream: &impl AsRawFd,
    buffer: &mut Vec<u8>,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<Option<usize>> {
    let mut chunk = [0; 16 << 10];
    let mut control = nix::cmsg_space!([i32; 8]);
    let mut parts = [IoSliceMut::new(&mut chunk)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            descriptors.extend(received.into_iter().map(own));
        }
    }
    let count = message.bytes;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(Some(count))
}

/// The terminal that an OCI runtime has sent to a console socket.
pub(crate) fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    let (stream, _) = listener.accept()?;
    let (mut buffer, mut descriptors) = (Vec::new(), VecDeque::new());
    receive(&stream, &mut buffer, &mut descriptors)?;
    descriptors
        .pop_front()
        .ok_or_else(|| io::Error::other("the runtime sent no terminal"))
}

#[allow(unsafe_code)]
fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, by SCM_RIGHTS.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
