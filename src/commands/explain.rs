//! `outrigger explain [ID]`: the page of a failure, or the list of all failures.

use serde_json::json;

use crate::base::error::{Command, Failure, Id, Result};
use crate::base::text::{closest, hang};
use crate::commands::session::Outside;
use crate::commands::{Ended, write_page};
use crate::output::explain::page;

/// Prints the page of a failure, or without an id the list of all failures.
///
/// # Errors
/// OR0202 (exit 2) if no failure has this id.
pub fn explain(outside: &Outside<'_>, id: Option<&str>) -> Result<Ended> {
    let human = outside.ui.paper();
    let Some(id) = id else {
        let mut text = format!("{:<8}{:<6}{}\n", "ID", "EXIT", "FAILURE");
        for id in Id::ALL {
            let head = format!("{:<8}{:<6}", id.code(), id.kind().exit_code());
            text += &hang(&head, id.title(), human.width);
        }
        let all: Vec<_> = Id::ALL.iter().map(|id| fields(*id)).collect();
        return write_page(outside, &text, "failures", &[("failures", json!(all))]);
    };
    let known = find(id).ok_or_else(|| unknown(id))?;
    let page = page(known);
    let fields = [
        ("id", json!(known.code())),
        ("exit", json!(known.kind().exit_code())),
        ("title", json!(known.title())),
        ("text", json!(page)),
    ];
    write_page(outside, &human.prose(&page), "explanation", &fields)
}

fn fields(id: Id) -> serde_json::Value {
    json!({"id": id.code(), "exit": id.kind().exit_code(), "title": id.title()})
}

/// The failure of `OR0306`, `or0306` or `0306`.
fn find(id: &str) -> Option<Id> {
    let digits = digits(id);
    Id::ALL.iter().find(|known| known.code()[2..] == *digits).copied()
}

fn digits(id: &str) -> &str {
    id.get(..2).filter(|area| area.eq_ignore_ascii_case("OR")).map_or(id, |_| &id[2..])
}

fn unknown(id: &str) -> Failure {
    let failure = Failure::new(Id::InvalidInput, format!("unknown failure id {id:?}"));
    let near = closest(digits(id), Id::ALL.iter().map(|known| &known.code()[2..])).and_then(find);
    let failure = match near {
        Some(near) => failure.hint((
            format!("did you mean {near}, {}", near.title()),
            Command::page(format!("explain {near}")),
        )),
        None => failure,
    };
    failure.hint(("to list all failures", Command::page("explain")))
}

#[cfg(test)]
mod tests {
    use super::{find, unknown};
    use crate::base::error::Id;

    #[test]
    fn an_id_is_found_with_and_without_its_letters_in_any_case() {
        for id in ["OR0306", "or0306", "Or0306", "0306"] {
            assert_eq!(find(id), Some(Id::EndpointCertificate), "{id}");
        }
        for id in ["", "OR", "306", "OR06", "ÖR0306", "OR0306 "] {
            assert_eq!(find(id), None, "{id}");
        }
    }

    #[test]
    fn an_unknown_id_leads_to_a_known_one_and_to_the_list() {
        let hints = |id| unknown(id).hints.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(hints("OR0360")[0].starts_with("did you mean OR0"), "{:?}", hints("OR0360"));
        assert_eq!(hints("nonsense"), ["to list all failures: outrigger explain"]);
    }
}
