//! One line of a log in the CRI's format. Pure.

use coracle_clock::Timestamp;

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// As it is written, nanoseconds and all.
    pub(super) time: &'a str,
    pub(super) stream: &'a str,
    /// The text goes on in the next line of the same stream.
    pub(super) partial: bool,
    /// Without the line break.
    pub(super) text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a line without its line break; `None` if it is not in the format.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (time, stream, tags) = (text()?, text()?, text()?);
        if !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        Some(Self {
            time,
            stream,
            partial: tags.split(':').next() == Some("P"),
            text: fields.next().unwrap_or_default(),
        })
    }

    pub(super) fn at(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed_and_others_refused() {
        let line = Line::parse(b"2026-01-01T00:00:00.000000001Z stdout F a b").unwrap();
        assert_eq!((line.stream, line.partial, line.text), ("stdout", false, &b"a b"[..]));
        assert_eq!(line.at().unwrap().as_nanosecond() % 10, 1);
        assert!(Line::parse(b"2026-01-01T00:00:00Z stderr P x").unwrap().partial);
        assert_eq!(Line::parse(b"2026-01-01T00:00:00Z stdout F ").unwrap().text, b"");
        assert_eq!(Line::parse(b"2026-01-01T00:00:00Z stdout F").unwrap().text, b"");
        assert!(Line::parse(b"nonsense").is_none());
    }
}
