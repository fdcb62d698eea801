//! The types of settings' fields: one value or several, with or without source, optional or not; and the enums of
//! choices.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::row::Kind;
use super::{Source, Sourced, check};

/// A single value that is parsed from text.
pub trait One: Sized {
    const KIND: Kind = Kind::Text;
    /// The allowed words, if the value is an enum.
    const CHOICES: &'static [&'static str] = &[];
    /// The error completes a sentence: "is not a number".
    fn parse(text: &str) -> Result<Self, String>;
    /// Text for [`Self::parse`]; empty if there is nothing to write.
    fn text(&self) -> String;
}

/// One value or several.
pub trait Values: Sized {
    type One: One;
    const KIND: Kind;
    /// `None` if `values` is empty. A single value is the last one.
    fn of(values: Vec<Self::One>) -> Option<Self>;
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
    type Values: Values;
    /// The field for the values found, else for the row's default.
    fn of(found: Option<Sourced<Self::Values>>, default: Option<Self::Values>) -> Self;
    /// The values, and their source if the field keeps it.
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

/// Implements [`One`] with two functions.
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

/// An enum whose variants are words on the command line, in the order of the help.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// The word on the command line.
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
    /// A Pod Security level, from the least to the most restrictive.
    #[derive(Default)]
    PodSecurity {
        Privileged = "privileged",
        #[default]
        Baseline = "baseline",
        Restricted = "restricted",
    }
    /// Where a launch script runs; [`crate::machine::target`] has a row for each, in the same order.
    #[derive(Default)]
    Place {
        #[default]
        Lightsail = "lightsail",
        Ec2 = "ec2",
        Gce = "gce",
        Azure = "azure",
        DigitalOcean = "digitalocean",
        Hetzner = "hetzner",
        OpenStack = "openstack",
        Ssh = "ssh",
        CloudConfig = "cloud-config",
        NoCloud = "nocloud",
    }
    /// How to install gitlab-runner.
    #[derive(Default)]
    InstallMethod {
        /// GitLab's Debian packages.
        #[default]
        Apt = "apt",
        /// As `apt`, but with an empty package instead of the helper images (519 MB), which the Kubernetes executor
        /// does not use.
        AptSlim = "apt-slim",
        /// GitLab's static binary.
        Binary = "binary",
    }
    /// Where jobs keep their cache.
    CacheType {
        S3 = "s3",
        Gcs = "gcs",
        Azure = "azure",
        /// No cache, also if one is recorded.
        None = "none",
    }
    /// The least severe messages that gitlab-runner logs.
    LogLevel {
        Panic = "panic",
        Fatal = "fatal",
        Error = "error",
        Warning = "warning",
        Info = "info",
        Debug = "debug",
    }
    /// When nodes pull the jobs' images.
    PullPolicy {
        Always = "always",
        IfNotPresent = "if-not-present",
        Never = "never",
    }
    /// Where the launch script's secrets are.
    Secrets {
        Inline = "inline",
        Separate = "separate",
    }
    /// A credential to replace although the old one still works.
    Reissue {
        /// The runner's token at GitLab.
        Runner = "runner",
        /// The ServiceAccount's token in the cluster.
        Cluster = "cluster",
        /// Both; resolved settings contain the two instead.
        All = "all",
    }
    /// A risk that the user accepts by name; the help of `--accept` describes each.
    Risk {
        SharedNamespace = "shared-namespace",
        Lifetime = "lifetime",
        TemporaryEdit = "temporary-edit",
        Generated = "generated",
        UnseenHost = "unseen-host",
        UnreachableEndpoint = "unreachable-endpoint",
    }
    /// The calls of AWS that a policy allows.
    PolicyPhase {
        /// To make the instance and run the script there.
        Create = "create",
        /// For status, and to run a script there again.
        Operate = "operate",
        /// For teardown.
        Remove = "remove",
    }
    /// The output format.
    #[derive(Default)]
    Output {
        /// Text: reports and data on stdout, progress and errors on stderr.
        #[default]
        Human = "human",
        /// JSON lines on stdout.
        Json = "json",
        /// The names of the deployments (`list`).
        Name = "name",
    }
}

impl PodSecurity {
    /// The level of a namespace's label; an unknown level forbids nothing.
    pub fn of_label(label: &str) -> Self {
        Self::parse(label).unwrap_or(Self::Privileged)
    }
}
