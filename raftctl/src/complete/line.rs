//! A line as bash has it: raw, with quotes.

/// The words of a line up to the cursor.
///
/// Invariants:
/// - there is at least one word, the last one is that at the cursor, and may be empty;
/// - `kept` is a boundary of characters in it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) words: Vec<String>,
    /// Bytes of the last word that stay as they are: what is inserted comes behind them.
    kept: usize,
    /// The quote that is open at the cursor.
    quote: Option<char>,
}

impl Line {
    /// Reads it as bash does, without expansions. `breaks` are bash's COMP_WORDBREAKS: what is
    /// completed begins behind the last of them in a word.
    pub(super) fn read(line: &str, breaks: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let (mut inside, mut kept, mut quote) = (false, 0, None);
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some(open), _) if open == c => quote = None,
                (Some('"') | None, '\\') => {
                    inside = true;
                    word.extend(chars.next());
                }
                (Some(_), _) => word.push(c),
                (None, '\'' | '"') => {
                    (quote, inside) = (Some(c), true);
                    kept = word.len();
                }
                (None, ' ' | '\t' | '\n') => {
                    if inside {
                        words.push(std::mem::take(&mut word));
                    }
                    (inside, kept) = (false, 0);
                }
                (None, _) => {
                    inside = true;
                    word.push(c);
                    if breaks.contains(c) {
                        kept = word.len();
                    }
                }
            }
        }
        // A quote that is closed again is part of what is completed.
        if quote.is_none() && line.ends_with(['\'', '"']) {
            kept = 0;
        }
        words.push(word);
        Self { words, kept, quote }
    }

    /// What is to stand behind what stays, if the word is to become `value`.
    pub(super) fn insert(&self, value: &str) -> String {
        let rest = value.get(self.kept..).unwrap_or_default();
        // The shell writes the closing quote.
        if self.quote == Some('\'') {
            return rest.replace('\'', r"'\''");
        }
        let mut text = String::new();
        for c in rest.chars() {
            let plain = match self.quote {
                Some(_) => !r#"\"$`"#.contains(c),
                None => c.is_alphanumeric() || "-_=./:,@%+~".contains(c),
            };
            if !plain {
                text.push('\\');
            }
            text.push(c);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    #[track_caller]
    fn reads(line: &str, words: &[&str]) -> Line {
        let line = Line::read(line, BREAKS);
        assert_eq!(line.words, words);
        line
    }

    #[test]
    fn words_are_those_that_bash_sees() {
        reads("", &[""]);
        reads("raftctl ", &["raftctl", ""]);
        reads("raftctl get  a", &["raftctl", "get", "a"]);
        reads(
            r#"raftctl get 'a b' "c\"d" e\ f"#,
            &["raftctl", "get", "a b", "c\"d", "e f"],
        );
        reads("raftctl get 'a b", &["raftctl", "get", "a b"]);
        reads("raftctl put k ''", &["raftctl", "put", "k", ""]);
    }

    #[test]
    fn what_is_inserted_comes_behind_the_last_break() {
        assert_eq!(
            reads("r get ap", &["r", "get", "ap"]).insert("app/x"),
            "app/x"
        );
        assert_eq!(
            reads("r -e h:74", &["r", "-e", "h:74"]).insert("h:7400"),
            "7400"
        );
        assert_eq!(
            reads("r --expect=a", &["r", "--expect=a"]).insert("--expect=ab"),
            "ab"
        );
        assert_eq!(
            reads("r get a", &["r", "get", "a"]).insert("a b$"),
            r"a\ b\$"
        );
        assert_eq!(reads("r get 'a", &["r", "get", "a"]).insert("a b"), "a b");
        assert_eq!(
            reads("r get 'a", &["r", "get", "a"]).insert("a'b$"),
            r"a'\''b$"
        );
        assert_eq!(
            reads("r get \"a", &["r", "get", "a"]).insert("a'b$\""),
            r#"a'b\$\""#
        );
        assert_eq!(
            reads("r get x'a", &["r", "get", "xa"]).insert("xa b"),
            "a b"
        );
    }
}
