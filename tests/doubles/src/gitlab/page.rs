//! Lists in pages.

use serde_json::Value;

use super::answer::{Answer, Outcome};
use super::params::Params;
use super::state::State;
use crate::wire::Request;

fn with_page(query: &str, page: usize, per_page: usize) -> String {
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && name != "page" && name != "per_page"
    });
    let mut pairs: Vec<String> = kept.map(str::to_owned).collect();
    pairs.push(format!("page={page}"));
    pairs.push(format!("per_page={per_page}"));
    pairs.join("&")
}

/// One page of a list, with the headers that lead to the others.
pub(crate) fn paginate(state: &State, request: &Request, params: &mut Params, rows: &[Value]) -> Outcome {
    let page = params.integer("page").unwrap_or(1);
    let per_page = params.integer("per_page").unwrap_or(20);
    params.done()?;
    let page = usize::try_from(page).unwrap_or(1).max(1);
    let per_page = usize::try_from(per_page).unwrap_or(20).clamp(1, state.options.per_page_cap);
    let pages = rows.len().div_ceil(per_page).max(1);
    let shown: Vec<Value> =
        rows.iter().skip((page - 1).saturating_mul(per_page)).take(per_page).cloned().collect();
    // The path as the server sees itself, which need not be how the client reached it.
    let path = request.path.strip_prefix(&state.options.relative_root).unwrap_or(&request.path);
    let link = |page: usize, relation: &str| {
        format!("<{}{path}?{}>; rel=\"{relation}\"", state.url, with_page(&request.raw_query, page, per_page))
    };
    let counted = rows.len() < state.options.total_cap;
    let (next, previous) = (page < pages, page > 1);
    let mut links = Vec::new();
    if previous {
        links.push(link(page - 1, "prev"));
    }
    if next {
        links.push(link(page + 1, "next"));
    }
    links.push(link(1, "first"));
    if counted {
        links.push(link(pages, "last"));
    }
    let number = |wanted: bool, value: usize| if wanted { value.to_string() } else { String::new() };
    let mut answer = Answer::json(200, &Value::from(shown));
    let mut header = |name: &str, value: String| answer.headers.push((name.to_owned(), value));
    header("Link", links.join(", "));
    header("X-Page", page.to_string());
    header("X-Per-Page", per_page.to_string());
    header("X-Next-Page", number(next, page + 1));
    header("X-Prev-Page", number(previous, page.saturating_sub(1)));
    if counted {
        header("X-Total", rows.len().to_string());
        header("X-Total-Pages", pages.to_string());
    }
    Ok(answer)
}
