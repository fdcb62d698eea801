//! The pages of `outrigger help TOPIC`, and the examples of each command's help. A new topic is a text file beside
//! this one, or a function, and a row of [`TOPICS`].

mod examples;

use std::fmt::Write as _;

use serde_json::json;

use crate::base::error::Result;
use crate::base::hint::{as_called, program};
use crate::base::text::{hang, width, wrap};
use crate::commands::session::Outside;
use crate::commands::{Ended, write_page};
use crate::gitlab::permissions;
use crate::settings::{Kind, OPTIONS, Row, SETTINGS};

pub use examples::examples;

/// A page that is not about one command.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    /// The word after `outrigger help`.
    pub name: &'static str,
    /// One line for lists.
    pub about: &'static str,
    text: fn() -> String,
}

/// In the order of the lists.
pub const TOPICS: &[Topic] = &[
    Topic { name: "environment", about: "environment variables", text: environment },
    Topic { name: "settings", about: "keys of the settings file", text: settings },
    Topic { name: "exit-codes", about: "exit codes", text: || include_str!("exit-codes.txt").to_owned() },
    Topic { name: "gitlab-token", about: "permissions of your GitLab access token", text: permissions::page },
    Topic { name: "json", about: "the output of -o json", text: || include_str!("json.txt").to_owned() },
    Topic {
        name: "kubectl",
        about: "use as a kubectl plugin",
        text: || include_str!("kubectl.txt").to_owned(),
    },
];

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Topic {}

impl Topic {
    pub fn find(name: &str) -> Option<&'static Self> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// The page with lines of at most this many columns.
    pub fn page(&self, columns: usize) -> String {
        fold(&as_called(&(self.text)()), columns.min(100))
    }
}

/// The list of topics for the end of a page: in one paragraph, and as a table.
pub fn lists() -> [String; 2] {
    let names: Vec<_> = TOPICS.iter().map(|topic| topic.name).collect();
    let widest = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let line = |topic: &Topic| format!("\n  {:widest$}  {}", topic.name, topic.about);
    let title = format!("Topics ({} help TOPIC):", program());
    [format!("{title} {}", names.join(", ")), title + &TOPICS.iter().map(line).collect::<String>()]
}

fn rows() -> impl Iterator<Item = &'static Row> {
    SETTINGS.iter().chain(OPTIONS)
}

fn environment() -> String {
    let mut page = String::from(
        "Environment\n\nA flag takes precedence over its variable, a variable over the settings file. Empty means \
         not set.\n\n",
    );
    let names = |row: &Row| row.variables().collect::<Vec<_>>().join(", ");
    for row in rows().filter(|row| row.env.is_some()) {
        let _ = writeln!(page, "  {:<35} {}", row.dashed, names(row));
    }
    page + "\nGITLAB_TOKEN, GITLAB_ACCESS_TOKEN, OAUTH_TOKEN hold your GitLab access token itself; the first that is \
            set is used. It is sent only to a host given with it, by the same command line, environment or \
            settings file.\n\nHTTPS_PROXY and NO_PROXY (or in lower case) name the proxy on the way to the cluster \
            and to GitLab, by kubectl's rules; a kubeconfig's proxy-url takes precedence. ALL_PROXY is \
            ignored.\n\nNO_COLOR, FORCE_COLOR, CLICOLOR_FORCE, CLICOLOR and TERM=dumb control colour, in this order \
            of precedence; LC_ALL, LC_CTYPE, LANG control glyphs; COLUMNS is the width where there is no terminal. \
            CI disables prompts. Records are stored in XDG_STATE_HOME/outrigger.\n"
}

fn settings() -> String {
    let mut page = String::from(
        "Settings file\n\nGiven by --config FILE or OUTRIGGER_CONFIG. One flat YAML mapping; unknown and duplicate \
         keys are refused; relative paths are relative to the file. Flags and environment variables take precedence \
         over it, and it takes precedence over recorded settings. It may begin with apiVersion: outrigger.dev/v1alpha1 and kind: Settings. outrigger config schema prints its JSON Schema, outrigger config print which value comes \
         from where.\n\n",
    );
    for row in SETTINGS {
        let value = match row.kind {
            Kind::Bool => "true",
            Kind::List | Kind::Lines => "[…]",
            _ => row.value,
        };
        let _ = writeln!(page, "  {:<36}{}", format!("{}: {value}", row.key), row.help);
    }
    page
}

/// What the lines of a page so far belong to.
enum Block {
    /// Text at this indentation.
    Paragraph(usize, String),
    /// A row of columns: the first one with its indentation and gap, and the text beside it.
    Row(String, String),
}

impl Block {
    fn of(line: &str) -> Self {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        match text.split_once("  ").filter(|_| indent > 0) {
            Some((_, rest)) => {
                let rest = rest.trim_start();
                Self::Row(line[..line.len() - rest.len()].to_owned(), rest.to_owned())
            }
            None => Self::Paragraph(indent, text.to_owned()),
        }
    }

    /// Whether a line goes on with this block, and if so, adds it.
    fn takes(&mut self, line: &str) -> bool {
        let indent = line.len() - line.trim_start().len();
        let text = match self {
            Self::Paragraph(at, text) if *at == indent && width(text) > WRAPPED - indent => text,
            Self::Row(head, text) if width(head) == indent => text,
            _ => return false,
        };
        let goes_on = !line.trim_start().contains("  ");
        if goes_on {
            *text += " ";
            *text += line.trim_start();
        }
        goes_on
    }

    fn lines(&self, columns: usize) -> String {
        match self {
            Self::Paragraph(indent, text) => {
                let room = columns.saturating_sub(*indent);
                let lines = wrap(text, room, room).into_iter();
                lines.map(|line| format!("{}{line}\n", " ".repeat(*indent))).collect::<Vec<_>>().concat()
            }
            Self::Row(head, text) => hang(head, text, columns),
        }
    }
}

/// A shorter line ends its paragraph: the next line at the same indentation is one of a list.
const WRAPPED: usize = 70;

/// Sets a page for this many columns: paragraphs anew, rows of columns below their second column.
fn fold(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut block: Option<Block> = None;
    for line in text.lines() {
        if block.as_mut().is_some_and(|block| !line.is_empty() && block.takes(line)) {
            continue;
        }
        out += &block.take().map(|block| block.lines(columns)).unwrap_or_default();
        if line.is_empty() {
            out.push('\n');
        } else {
            block = Some(Block::of(line));
        }
    }
    out + &block.map(|block| block.lines(columns)).unwrap_or_default()
}

/// Prints the page of a topic.
pub fn topic(outside: &Outside<'_>, topic: &Topic) -> Result<Ended> {
    let columns = outside.ui.paper().width;
    write_page(
        outside,
        &topic.page(columns),
        "topic",
        &[("name", json!(topic.name)), ("text", json!(topic.page(100)))],
    )
}
