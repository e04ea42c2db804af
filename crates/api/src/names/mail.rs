//! Addresses of mail, as RFC 5322 writes them: `a@example.com`, `"Some One" <a@example.com>`.

/// Whether a text is one address, with or without the name of whom it is.
pub fn is_mail_address(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    if spec(text) == Some("") {
        return true;
    }
    let Some(rest) = phrase(text).strip_prefix('<') else {
        return false;
    };
    spec(rest) == Some(">")
}

/// Behind the address that the text begins with.
fn spec(text: &str) -> Option<&str> {
    let rest = match text.starts_with('"') {
        true => quoted(text).filter(|rest| text.len() - rest.len() > 2)?,
        false => dotted(text)?,
    };
    let domain = rest.trim_start_matches([' ', '\t']).strip_prefix('@')?;
    let domain = domain.trim_start_matches([' ', '\t']);
    match domain.strip_prefix('[') {
        Some(literal) => {
            let (inside, behind) = literal.split_once(']')?;
            inside.parse::<std::net::IpAddr>().ok().map(|_| behind)
        }
        None => dotted(domain),
    }
}

fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// Behind words with single dots between them.
fn dotted(text: &str) -> Option<&str> {
    let rest = text.trim_start_matches(|c| is_atom(c) || c == '.');
    let words = text.get(..text.len() - rest.len())?;
    (!words.split('.').any(str::is_empty)).then_some(rest)
}

/// Behind the quoted text.
fn quoted(text: &str) -> Option<&str> {
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some(chars.as_str()),
            '\\' => chars.next().filter(|c| !c.is_control()).map(drop)?,
            c if c.is_control() && c != '\t' => return None,
            _ => {}
        }
    }
}

/// Behind the name of whom an address is.
fn phrase(mut text: &str) -> &str {
    loop {
        let rest = match text.starts_with('"') {
            true => quoted(text).unwrap_or(text),
            false => text.trim_start_matches(|c| is_atom(c) || c == '.'),
        };
        let rest = rest.trim_start_matches([' ', '\t']);
        if rest.len() == text.len() {
            return rest;
        }
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_words_at_a_domain() {
        for fine in [
            "a@b",
            "a.b+c@example.com",
            "\"a b\"@example.com",
            "Some One <a@example.com>",
            "\"One, Some\" <a@example.com>",
            "<a@example.com>",
            "a@[127.0.0.1]",
            "ä@ö.example",
        ] {
            assert!(is_mail_address(fine), "{fine}");
        }
        for wrong in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a..b@c",
            ".a@c",
            "a@b.",
            "a@b c",
            "a@b, c@d",
            "\"\"@b",
            "\"a@b",
            "Some One a@b",
            "<a@b",
            "a@[b]",
            "a b@c",
        ] {
            assert!(!is_mail_address(wrong), "{wrong}");
        }
    }
}
