//! What a setting's field can be: one value or several, with or without its source, optional or not; and the
//! choices, which are parsed once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::row::Kind;
use super::{Source, Sourced, check};

/// One value: how it is read from text and written back. Empty text stands for nothing to write.
pub trait One: Sized {
    /// What it looks like on the command line.
    const KIND: Kind = Kind::Text;
    /// The words allowed, where they are few.
    const CHOICES: &'static [&'static str] = &[];
    /// Reads it, or says in one phrase what is wrong with the text.
    fn parse(text: &str) -> Result<Self, String>;
    /// Text that [`Self::parse`] reads back.
    fn text(&self) -> String;
}

/// One value, of which the last counts, or all of several.
pub trait Values: Sized {
    /// Each value.
    type One: One;
    /// What they look like on the command line.
    const KIND: Kind;
    /// The values; none if there are none.
    fn of(values: Vec<Self::One>) -> Option<Self>;
    /// Each value's text.
    fn texts(&self) -> Vec<String>;
}

impl<T: One> Values for T {
    type One = T;
    const KIND: Kind = T::KIND;

    fn of(mut values: Vec<T>) -> Option<T> {
        values.pop()
    }

    fn texts(&self) -> Vec<String> {
        Some(self.text()).filter(|text| !text.is_empty()).into_iter().collect()
    }
}

impl<T: One> Values for Vec<T> {
    type One = T;
    const KIND: Kind = Kind::List;

    fn of(values: Vec<T>) -> Option<Self> {
        (!values.is_empty()).then_some(values)
    }

    fn texts(&self) -> Vec<String> {
        self.iter().map(One::text).collect()
    }
}

/// The type of a field in the table: values, optional or not, with their source or without.
pub trait Shape: Sized {
    /// The values it holds.
    type Values: Values;
    /// The field for what was found, if anything was; else for the default, if the row has one.
    fn of(found: Option<Sourced<Self::Values>>, default: Option<Self::Values>) -> Self;
    /// The values it holds, and their source where it keeps that.
    fn held(&self) -> Option<(&Self::Values, Option<&Source>)>;
}

impl<V: Values + Default> Shape for V {
    type Values = V;

    fn of(found: Option<Sourced<V>>, default: Option<V>) -> V {
        <Sourced<V> as Shape>::of(found, default).value
    }

    fn held(&self) -> Option<(&V, Option<&Source>)> {
        Some((self, None))
    }
}

impl<V: Values> Shape for Option<V> {
    type Values = V;

    fn of(found: Option<Sourced<V>>, default: Option<V>) -> Self {
        found.map(|found| found.value).or(default)
    }

    fn held(&self) -> Option<(&V, Option<&Source>)> {
        self.as_ref().map(|value| (value, None))
    }
}

impl<V: Values + Default> Shape for Sourced<V> {
    type Values = V;

    fn of(found: Option<Sourced<V>>, default: Option<V>) -> Self {
        found.unwrap_or_else(|| Sourced::new(default.unwrap_or_default(), Source::Default))
    }

    fn held(&self) -> Option<(&V, Option<&Source>)> {
        Some((&self.value, Some(&self.source)))
    }
}

impl<V: Values> Shape for Option<Sourced<V>> {
    type Values = V;

    fn of(found: Option<Sourced<V>>, _: Option<V>) -> Self {
        found
    }

    fn held(&self) -> Option<(&V, Option<&Source>)> {
        self.as_ref().map(|found| (&found.value, Some(&found.source)))
    }
}

/// Reads and writes a type by two functions.
macro_rules! one {
    ($type:ty, $kind:ident, $parse:expr, $text:expr) => {
        impl One for $type {
            const KIND: Kind = Kind::$kind;

            fn parse(text: &str) -> Result<Self, String> {
                $parse(text)
            }

            fn text(&self) -> String {
                $text(self)
            }
        }
    };
}

one!(bool, Bool, check::boolean, |on: &bool| if *on { "true".to_owned() } else { String::new() });
one!(u8, Count, |text: &str| text.parse().map_err(|_| "is not a small number".to_owned()), |count: &u8| {
    if *count == 0 { String::new() } else { count.to_string() }
});
one!(u32, Text, |text: &str| text.parse().map_err(|_| "is not a number".to_owned()), u32::to_string);
one!(String, Text, check::text, Clone::clone);
one!(PathBuf, Path, |text: &str| Ok(text.into()), |path: &PathBuf| path.display().to_string());
one!(Duration, Duration, check::duration, |value: &Duration| check::duration_text(*value));
one!((String, String), Text, super::metadata::annotation, |(key, value): &(String, String)| format!(
    "{key}={value}"
));

/// An enum whose variants are words on the command line, in the order that the help names them.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// The word for it on the command line.
            pub fn word(self) -> &'static str {
                <Self as One>::CHOICES[self as usize]
            }
        }

        impl One for $name {
            const CHOICES: &'static [&'static str] = &[$($word),*];

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("is not one of {}", Self::CHOICES.join(", "))),
                }
            }

            fn text(&self) -> String {
                self.word().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    )*};
}

choices! {
    /// A Pod Security level, the laxest first.
    #[derive(Default)]
    PodSecurity {
        /// Nothing is forbidden.
        Privileged = "privileged",
        /// Known escalations are.
        #[default]
        Baseline = "baseline",
        /// Pods are hardened.
        Restricted = "restricted",
    }
    /// Where a launch script runs; what each place is stands in [`crate::machine::target`], in this order.
    #[derive(Default)]
    Place {
        /// Amazon Lightsail.
        #[default]
        Lightsail = "lightsail",
        /// Amazon EC2.
        Ec2 = "ec2",
        /// Google Compute Engine.
        Gce = "gce",
        /// Azure.
        Azure = "azure",
        /// `DigitalOcean`.
        DigitalOcean = "digitalocean",
        /// Hetzner Cloud.
        Hetzner = "hetzner",
        /// `OpenStack`.
        OpenStack = "openstack",
        /// A host over SSH.
        Ssh = "ssh",
        /// Any cloud with cloud-init.
        CloudConfig = "cloud-config",
        /// A VM with a `NoCloud` seed.
        NoCloud = "nocloud",
    }
    /// How gitlab-runner comes onto the machine.
    #[derive(Default)]
    InstallMethod {
        /// GitLab's Debian packages.
        #[default]
        Apt = "apt",
        /// The same, with an empty package in the place of the helper images (519 MB), which the
        /// Kubernetes executor never uses.
        AptSlim = "apt-slim",
        /// GitLab's static binary.
        Binary = "binary",
    }
    /// When nodes pull the jobs' images.
    PullPolicy {
        /// Each time.
        Always = "always",
        /// Where the node has none.
        IfNotPresent = "if-not-present",
        /// The node has it.
        Never = "never",
    }
    /// Where the launch script's secrets are.
    Secrets {
        /// In the script.
        Inline = "inline",
        /// In a file beside it.
        Separate = "separate",
    }
    /// A credential to issue anew although the old one still works.
    Reissue {
        /// The runner's token at GitLab.
        Runner = "runner",
        /// The service account's token in the cluster.
        Cluster = "cluster",
        /// Both: resolved settings name them instead.
        All = "all",
    }
    /// A risk that is accepted by its name.
    Risk {
        /// Others can create pods in a namespace that we use, and so read its Secrets.
        SharedNamespace = "shared-namespace",
        /// The cluster shortened the token's lifetime.
        Lifetime = "lifetime",
        /// A moment of `edit` in an existing namespace.
        TemporaryEdit = "temporary-edit",
        /// Namespaces are deleted together with what generators keep in them.
        Generated = "generated",
    }
    /// How a run reports.
    #[derive(Default)]
    Output {
        /// Text for people, on stderr.
        #[default]
        Human = "human",
        /// JSON lines, on stdout.
        Json = "json",
    }
}

impl PodSecurity {
    /// The level that a namespace's label names; what is no level forbids nothing.
    pub fn of_label(label: &str) -> Self {
        Self::parse(label).unwrap_or(Self::Privileged)
    }
}
