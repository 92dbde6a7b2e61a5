//! What was probably meant by a name that nobody knows.

/// The known name that one is a slip away from, or the only one that begins with it. Of several that
/// are as near, the first.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<_> = known.collect();
    let slips = |known: &&str| strsim::osa_distance(known, name);
    let nearest = known.iter().copied().min_by_key(slips)?;
    if slips(&nearest) <= 1 + name.len() / 4 {
        return Some(nearest);
    }
    let mut longer = known.into_iter().filter(|known| known.starts_with(name));
    longer.next().filter(|_| longer.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_nonsense_finds_none() {
        let known = ["put", "get", "promote-peer", "snapshot", "peers"];
        let nearest = |name| nearest(name, known.into_iter());
        assert_eq!(nearest("pt"), Some("put"), "a letter is missing");
        assert_eq!(nearest("gte"), Some("get"), "two letters changed places");
        assert_eq!(nearest("snpashto"), Some("snapshot"));
        assert_eq!(nearest("peer"), Some("peers"));
        assert_eq!(nearest("promo"), Some("promote-peer"), "the beginning");
        assert_eq!(nearest("p"), None, "of three");
        assert_eq!(nearest(""), None);
        assert_eq!(nearest("zzz"), None);
    }
}
