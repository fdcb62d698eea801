//! A row of the table, and the macro that turns a table of rows into a struct.

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A switch: present on the command line, `true` or `false` elsewhere.
    Bool,
    /// A switch that counts (`-vv`).
    Count,
    /// One value.
    Text,
    /// Several values: repeated or separated by commas; a YAML list in the file.
    List,
    /// Several values that may contain commas: repeated; a YAML list in the file.
    Lines,
    /// A file or directory; `~/` is expanded, and in the settings file it is relative to that file.
    Path,
    /// `90s`, `5m`, `24h`, `7d`.
    Duration,
}

/// The section of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Accepted by every command.
    Connection,
    /// Accepted by every command.
    Output,
    Cluster,
    Runner,
    Machine,
    /// The VM that create-vm makes.
    Vm,
    /// Read from the command line only, and never recorded.
    Consent,
    Run,
}

impl Group {
    /// The heading in the help.
    pub fn heading(self) -> &'static str {
        match self {
            Group::Connection => "Deployment and cluster",
            Group::Output => "Output",
            Group::Cluster => "Cluster",
            Group::Runner => "GitLab and runner",
            Group::Machine => "Runner machine",
            Group::Vm => "VM on Amazon Lightsail",
            Group::Consent => "Consent",
            Group::Run => "Run",
        }
    }

    pub fn is_global(self) -> bool {
        matches!(self, Group::Connection | Group::Output)
    }
}

/// One setting or run option.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key in the settings file and the record.
    pub key: &'static str,
    /// The long flag without dashes; also the id of the clap argument.
    pub flag: &'static str,
    /// The long flag with dashes.
    pub dashed: &'static str,
    pub short: Option<char>,
    /// The variable `OUTRIGGER_…`; `None` if the environment is not read.
    pub env: Option<&'static str>,
    /// Variables of other programs, read after `env`, in this order.
    pub also: &'static [&'static str],
    /// The placeholder of the value in the help.
    pub value: &'static str,
    /// The allowed words, if the value is an enum.
    pub choices: &'static [&'static str],
    pub kind: Kind,
    pub group: Group,
    /// Whether the record keeps the value for the next run.
    pub recorded: bool,
    /// A default that is not recorded, so that a newer version's default applies.
    pub default: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
    /// Further lines for the long help, or empty.
    pub long: &'static str,
    /// Switches of earlier versions for one of the values: flag without dashes, value.
    pub aliases: &'static [(&'static str, &'static str)],
}

impl Row {
    /// Takes the names from [`spelled`]: `--flag`, `OUTRIGGER_FLAG` and `key`.
    pub(super) const fn new(
        [dashed, env, key]: [&'static str; 3],
        (kind, choices): (Kind, &'static [&'static str]),
        (value, group, help): (&'static str, Group, &'static str),
    ) -> Self {
        Self {
            key,
            flag: dashed.split_at(2).1,
            dashed,
            short: None,
            // The environment is set without knowledge of what the run will do.
            env: if matches!(group, Group::Consent) { None } else { Some(env) },
            also: &[],
            value,
            choices,
            kind,
            group,
            recorded: false,
            default: None,
            help,
            long: "",
            aliases: &[],
        }
    }

    pub(super) const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    pub(super) const fn not_from_env(self) -> Self {
        Self { env: None, ..self }
    }

    pub(super) const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    pub(super) const fn lines(self) -> Self {
        Self { kind: Kind::Lines, ..self }
    }

    pub(super) const fn recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    /// Recorded unless it is the default: a newer version of outrigger may know a newer location of GitLab's
    /// packages and their key.
    pub(super) const fn recorded_unless(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self.recorded() }
    }

    pub(super) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    pub(super) const fn long(self, long: &'static str) -> Self {
        Self { long, ..self }
    }

    pub(super) const fn aliases(self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Self { aliases, ..self }
    }

    /// The environment variables in the order of precedence.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.env.into_iter().chain(self.also.iter().copied())
    }

    /// The variable to show to the user: that of another program if there is one.
    pub fn env_name(&self) -> Option<&'static str> {
        self.also.first().copied().or(self.env)
    }

    /// `--flag VALUE`.
    pub fn usage(&self) -> String {
        if self.value.is_empty() { self.dashed.to_owned() } else { format!("{} {}", self.dashed, self.value) }
    }
}

/// The spelling of a name of the table, `some_name` or `some-name`.
#[derive(Clone, Copy, Debug)]
pub enum Spelling {
    /// `--some-name`.
    Flag,
    /// `OUTRIGGER_SOME_NAME`.
    Variable,
    /// `someName`.
    Key,
}

impl Spelling {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Flag => b"--",
            Self::Variable => b"OUTRIGGER_",
            Self::Key => b"",
        }
    }

    /// The bytes, and the number of them that are used.
    pub const fn spell<const LENGTH: usize>(self, name: &[u8]) -> ([u8; LENGTH], usize) {
        let (mut spelled, mut at, mut raised) = ([0; LENGTH], 0, false);
        while at < self.prefix().len() {
            spelled[at] = self.prefix()[at];
            at += 1;
        }
        let mut from = 0;
        while from < name.len() {
            let gap = matches!(name[from], b'_' | b'-');
            if gap && matches!(self, Self::Key) {
                raised = true;
            } else {
                spelled[at] = match self {
                    Self::Flag if gap => b'-',
                    Self::Variable if gap => b'_',
                    Self::Key if !raised => name[from],
                    Self::Flag => name[from],
                    _ => name[from].to_ascii_uppercase(),
                };
                raised = false;
                at += 1;
            }
            from += 1;
        }
        (spelled, at)
    }
}

/// Spells the name of a row at compile time.
macro_rules! spelled {
    ($spelling:ident, $name:expr) => {{
        const SPELLED: ([u8; 64], usize) = Spelling::$spelling.spell($name.as_bytes());
        match std::str::from_utf8(SPELLED.0.split_at(SPELLED.1).0) {
            Ok(text) => text,
            Err(_) => panic!("a name is ASCII"),
        }
    }};
}

/// Defines a struct of fields and their rows. A row is
/// `field as "flag": type = default => check, "VALUE", Group, "help".more();` where `as "flag"`, `= default`,
/// `=> check` and `.more()` are optional. The defaults are the field's name and the type's own parser. A default
/// value may use the fields above it.
macro_rules! table {
    (
        $(#[$meta:meta])* $name:ident, $rows:ident;
        $(
            $field:ident $(as $flag:literal)? : $type:ty $(= $default:expr)? $(=> $check:expr)?,
            $value:literal, $group:ident, $help:literal $(. $more:ident ( $($argument:tt)* ))*;
        )*
    ) => {
        $(#[$meta])*
        #[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
        #[allow(clippy::doc_markdown, rustdoc::invalid_html_tags, reason = "the help is plain text")]
        pub struct $name {
            $(#[doc = $help] pub $field: $type,)*
            /// The sources of the values by key, without default values.
            pub sources: BTreeMap<&'static str, Source>,
        }

        /// The rows in the order of help and commands.
        pub const $rows: &[Row] = &[$(
            Row::new(
                [
                    spelled!(Flag, table!(@or $($flag)?; stringify!($field))),
                    spelled!(Variable, table!(@or $($flag)?; stringify!($field))),
                    spelled!(Key, stringify!($field)),
                ],
                (
                    <<$type as Shape>::Values as Values>::KIND,
                    <<<$type as Shape>::Values as Values>::One as One>::CHOICES,
                ),
                ($value, $group, $help),
            )
            $(.$more($($argument)*))*
        ),*];

        impl $name {
            pub(super) fn read(reader: &mut Reader) -> Self {
                $(let $field: $type = reader.value(
                    &$rows[Position::$field as usize],
                    table!(@or $($check)?; <<<$type as Shape>::Values as Values>::One as One>::parse),
                    table!(@default $($default)?),
                );)*
                Self { $($field,)* sources: std::mem::take(&mut reader.sources) }
            }

            /// The texts and source of a setting by its key; `None` if it has no value.
            pub fn view(&self, key: &str) -> Option<(Vec<String>, Source)> {
                let row = $rows.iter().position(|row| row.key == key)?;
                let (texts, source) = match row {
                    $(at if at == Position::$field as usize => {
                        self.$field.held().map(|(values, source)| (values.texts(), source.cloned()))?
                    })*
                    _ => return None,
                };
                let source = source.or_else(|| self.sources.get(key).cloned()).unwrap_or(Source::Default);
                (!texts.is_empty()).then_some((texts, source))
            }
        }

        #[allow(non_camel_case_types, reason = "the variants are the fields' names")]
        enum Position { $($field),* }
    };
    (@or ; $else:expr) => { $else };
    (@or $given:expr; $else:expr) => { $given };
    (@default) => { None };
    (@default $default:expr) => { Some($default.into()) };
}

pub(super) use {spelled, table};
