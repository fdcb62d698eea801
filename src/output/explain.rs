//! `outrigger explain ID`: what happened, why outrigger stops there, and what to do. The title is in the
//! catalogue, the text below it in `explain.txt`.

use crate::base::error::Id;

/// Each page begins with its code on a line of its own, after an empty one.
const PAGES: &str = include_str!("explain.txt");

/// The page of a failure, with its title in front.
pub fn page(id: Id) -> String {
    let begins = format!("{id}\n\n");
    let text = PAGES.split_once(begins.as_str()).map_or("", |(_, after)| after);
    let end = text.match_indices("\n\nOR").map(|(at, _)| at).find(|at| is_code(&text[at + 2..]));
    format!("{id}: {}\n\n{}\n", id.title(), text[..end.unwrap_or(text.len())].trim_end())
}

/// Whether a text begins with a line that is a code and nothing else.
fn is_code(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.len() == 6 && line.starts_with("OR") && line[2..].bytes().all(|byte| byte.is_ascii_digit())
}

/// The page of a failure by its code; case does not matter.
pub fn explain(code: &str) -> Option<String> {
    Id::ALL.iter().find(|id| id.code().eq_ignore_ascii_case(code)).map(|id| page(*id))
}

#[cfg(test)]
mod tests {
    use super::{PAGES, explain, is_code, page};
    use crate::base::error::Id;

    #[test]
    fn each_failure_has_one_page_and_each_page_a_failure() {
        let codes: Vec<_> = PAGES.lines().filter(|line| is_code(line)).collect();
        let known: Vec<_> = Id::ALL.iter().map(|id| id.code()).collect();
        assert_eq!(codes, known);
    }

    #[test]
    fn pages_are_of_one_shape() {
        for id in Id::ALL {
            let text = page(*id);
            assert!(text.starts_with(&format!("{id}: {}\n\n", id.title())) && text.ends_with(".\n"), "{id}");
            assert!(text.lines().all(|line| line.chars().count() <= 105), "{id} has a long line");
            assert_eq!(
                text.lines().filter(|line| line.starts_with("OR")).count(),
                1,
                "{id} holds another page"
            );
        }
        assert_eq!(explain("or0101"), Some(page(Id::Internal)));
        assert!(explain("OR").is_none() && explain("").is_none());
    }
}
