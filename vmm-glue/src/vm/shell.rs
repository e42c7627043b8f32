//! Words as a POSIX shell reads them.

/// Joins arguments with spaces. Only what a shell would take apart is quoted, so that ordinary arguments
/// survive `$(...)` as well as the clipboard.
pub fn join(arguments: &[String]) -> String {
    let words: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_gets_them() {
        let words = ["-chardev", "socket,path=/a,,b", "it's a path", "$HOME", ""].map(String::from);
        assert_eq!(
            join(&words),
            r#"-chardev socket,path=/a,,b 'it'\''s a path' '$HOME' ''"#
        );
    }
}
