//! outrigger puts a GitLab Runner on a VM outside a Kubernetes cluster, lets it run every job as a pod
//! inside, proves it, and takes it away again.
//!
//! The life of `outrigger setup`: [`commands`] parses the command line, resolves the settings, reads the
//! record and connects; [`engine`] lets each of the [`steps`] look and decide, which makes the plan;
//! [`output`] shows it; applied, each creation is recorded before and after it happens.
//!
//! The rooms, each using those below it and none beside it (`tests/architecture.rs` holds the rule):
//!
//! | room | contents |
//! |---|---|
//! | [`commands`] | one file for each word typed; the command line, the session, the wizard |
//! | [`output`] | events as text and as JSON lines, the terminal, the explain pages |
//! | [`engine`] | plans, applies and undoes a selection of steps |
//! | [`steps`] | the list of steps, and one file for each |
//! | [`cluster`] | the Kubernetes API: connection, refusals, rights, Role, token, namespaces |
//! | [`gitlab`] | GitLab's API: connection, refusals, permissions, runner, pipeline |
//! | [`machine`] | the launch script, what runs on the machine, and the way there (ssh) |
//! | [`deployment`] | names, objects, ownership, record and plan of a deployment |
//! | [`settings`] | the table of settings, and their values from flag, environment, file and record |
//! | [`x509`] | certificates judged by Go's rules, and TLS |
//! | [`base`] | errors, files, requests, secrets, text: no knowledge of clusters, GitLab or machines |
//!
//! Where to change a flag's wording or default: `settings/table.rs`; a question: `commands/wizard/questions/`; the rights
//! granted: `cluster/rights.rs`; the script: `templates/launch.sh` and `machine/`; the wording of a server's error:
//! `cluster/refusal.rs` and `gitlab/refusal.rs`; the ownership of an object: `deployment/ownership.rs`, and without a
//! record `commands/confirm_owner.rs`; exit codes: `base/error.rs`; the order of steps: `steps/mod.rs`.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Instant;

mod base;
mod cluster;
mod commands;
mod deployment;
mod engine;
mod gitlab;
mod machine;
mod output;
mod settings;
mod steps;
mod x509;

use futures_util::future::LocalBoxFuture;

use base::cancel::Cancel;
use base::error::{Failure, Id, Kind};
use base::event::{End, Event, Reporter as _, Status};
use commands::cli::{self, Invocation};
use commands::session::Outside;
use commands::summary::Opened;
use settings::Problems;
use steps::contract::Prints;

pub use commands::wizard::{Ask, AskError, TerminalAsk, restore_terminal_on_panic};
pub use output::ui::{Streams, Ui};
pub use settings::RunOptions;

/// What the tests look at from outside. Nothing else uses it, and it changes without notice.
#[doc(hidden)]
pub mod internal {
    pub use crate::base::error::{Failure, Kind};
    pub use crate::base::event::Event;
    pub use crate::base::files::Intake;
    pub use crate::base::job_log::Log;
    pub use crate::base::secret::Secret;
    pub use crate::base::template::hex;
    pub use crate::base::{message, proxy};
    pub use crate::cluster::{Endpoint, Selection, contexts, load, rights};
    pub use crate::commands::{cli, step_help};
    pub use crate::deployment::mark;
    pub use crate::deployment::record::Record;
    pub use crate::gitlab::permissions;
    pub use crate::machine::launch_script::{Packed, packed};
    pub use crate::machine::placement::Placement;
    pub use crate::machine::uninstall::Uninstall;
    pub use crate::machine::view::script_exit;
    pub use crate::machine::{
        Entry, GlobalSection, Installer, LaunchScript, Method, Proxy, ScriptSecrets, commands, config_entry,
        is_ours, secrets_file, target,
    };
    pub use crate::output::{Human, json_line};
    pub use crate::settings::{
        DEFAULT_APT_URL, DEFAULT_KEY_FINGERPRINT, DEFAULT_KEY_URL, DEFAULT_RUNNER_VERSION, Inputs, resolve,
    };
    pub use crate::steps::STEPS;
    pub use crate::x509::{Bundle, BundleFault, Certificate, Host, Verdict, judge, read_bundle, tls};
}

/// Makes ring the TLS provider of the process, which kube and reqwest use. Call it first; a second call does nothing.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Keeps the secrets of this process to itself: no other process of the same user reads its memory or its
/// environment (`/proc/PID/environ`, ptrace), and no core is written, not by its children either. Call it
/// before anything else; where the system refuses, the run goes on without.
pub fn close_process() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Runs one command and returns its exit code. `make_ui` gets the options that decide about output.
pub async fn run(
    args: Vec<OsString>,
    env: &BTreeMap<String, String>,
    make_ui: impl FnOnce(&RunOptions) -> Ui,
    ask: &mut dyn Ask,
) -> u8 {
    let started = Instant::now();
    base::hint::called_by(args.first().map_or_else(|| "".as_ref(), AsRef::as_ref), || {
        let command = cli::command(&commands::step_help());
        command.get_subcommands().map(|one| one.get_name().to_owned()).collect()
    });
    // How to report, until all options are known to be right.
    let asked = RunOptions { output: cli::output(&args, env), ..RunOptions::default() };
    let fail = |ui: &Ui, failure: Failure| {
        let seconds = started.elapsed().as_secs_f64();
        finish(
            ui,
            commands::Ended::failed(failure.each().collect(), false),
            End { seconds, ..End::default() },
        )
    };
    let (invocation, matches) = match cli::parse(args, &commands::step_help()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let ui = make_ui(&asked);
            // Where the command is missing, a reader wants the whole help.
            let is_help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
            if !error.use_stderr() || is_help && asked.output != settings::Output::Json {
                ui.help(&error);
            }
            return commands::usage(error).map_or(0, |failure| fail(&ui, failure));
        }
    };
    let is_page = invocation.is_page();
    // What a shell asks for has no options.
    let (options, mut invalid) = match invocation {
        Invocation::Complete(_) => Default::default(),
        _ => settings::run_options(&matches, env),
    };
    check(&invocation, &options, &mut invalid);
    // Other commands list what is wrong with their settings too.
    if is_page && let Some(failure) = invalid.clone().failure(Vec::new()) {
        return fail(&make_ui(&asked), failure);
    }
    let ui = Rc::new(make_ui(&options));
    if let Some(path) = &options.log_file {
        match base::files::create_log(path) {
            Ok(file) => ui.log_to(file),
            Err(failure) => return fail(&ui, failure),
        }
    }
    if is_report(&invocation, &options) {
        ui.begin_report();
    }
    let opened = Rc::new(OnceCell::new());
    let is_status = invocation == Invocation::Status;
    let cancel = Cancel::default();
    let mut outside = Outside {
        subcommand: invocation.typed(),
        matches: &matches,
        env,
        options: &options,
        ui: Rc::clone(&ui),
        cancel: cancel.clone(),
        intake: Rc::new(base::files::Intake::new(&cancel, {
            let ui = Rc::clone(&ui);
            move |text| ui.event(&Event::Warning { text })
        })),
        ask,
        opened: Rc::clone(&opened),
        invalid,
        asked: settings::Remembered::new(),
        deadline: OnceCell::new(),
        typed: None,
    };
    let end = || End {
        seconds: started.elapsed().as_secs_f64(),
        deployment: opened.get().map(Opened::summary),
        ..End::default()
    };
    let ended = {
        let work = dispatch(invocation, &mut outside);
        match interruptible(work, &cancel, &ui).await {
            Ok(ended) => ended,
            Err(kind) => {
                // What the request in flight did is not known: it may well have changed something.
                let text = "Stopped immediately, and the last request may have changed something. Run the same command again, or outrigger teardown.";
                let exit = kind.exit_code();
                let text = text.to_owned();
                ui.event(&Event::Finished(Box::new(End { exit, changed: true, text, ..end() })));
                return exit;
            }
        }
    };
    if is_page && ended.is_ok() {
        return 0;
    }
    let mut ended = ended.unwrap_or_else(|failure| commands::Ended::failed(failure.each().collect(), false));
    if ended.failures.iter().any(|failure| failure.kind == Kind::Proof) {
        ended.status.push(Status::Unhealthy);
    } else if is_status && !ended.failures.is_empty() {
        ended.status.push(Status::Unchecked);
    }
    finish(&ui, ended, end())
}

/// Whether what a command finds is what it was asked for, so that it goes to stdout.
fn is_report(invocation: &Invocation, options: &RunOptions) -> bool {
    match invocation {
        Invocation::Status | Invocation::List => true,
        Invocation::Setup | Invocation::Teardown | Invocation::Rotate(_) | Invocation::Upgrade => {
            options.dry_run
        }
        Invocation::Step(name) => steps::find(name).is_some_and(|step| {
            let info = step.info();
            let prints =
                info.prints == Prints::Always || options.print || options.print_commands || options.uninstall;
            info.surveys || (options.dry_run && !prints)
        }),
        // These write a product.
        _ => false,
    }
}

/// Adds what is wrong with the options of this command.
fn check(invocation: &Invocation, options: &RunOptions, invalid: &mut Problems) {
    if options.output == settings::Output::Name && *invocation != Invocation::List {
        let list = base::hint::Command::page("list");
        invalid.add("--output", &format!("\"name\" is only for {list}; use human or json"));
    }
    let named = [("--only", &options.only), ("--skip", &options.skip)];
    let named = named.into_iter().flat_map(|(flag, names)| names.iter().map(move |name| (flag, name)));
    for (flag, name) in named.chain(options.from.iter().map(|name| ("--from", name))) {
        if steps::find(name).is_none() {
            let names: Vec<&str> = steps::STEPS.iter().map(|step| step.info().name).collect();
            let near = base::text::closest(name, names.iter().copied());
            let known = || format!(": steps are {}", names.join(", "));
            let meant = near.map_or_else(known, |near| format!("; did you mean {near}?"));
            invalid.add(flag, &format!("{} is not a step{meant}", settings::check::escaped(name)));
        }
    }
}

/// Runs the work. The first signal stops it after the request in flight; the second ends it at once, with the kind of
/// the first.
async fn interruptible<T>(
    mut work: LocalBoxFuture<'_, T>,
    cancel: &Cancel,
    ui: &Ui,
) -> std::result::Result<T, Kind> {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return Ok(work.await);
    };
    let mut asked = None;
    let mut ticks = tokio::time::interval(output::ui::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let kind = tokio::select! {
            done = &mut work => return Ok(done),
            _ = ticks.tick() => {
                ui.tick();
                continue;
            }
            _ = interrupt.recv() => Kind::Interrupted,
            _ = terminate.recv() => Kind::Terminated,
        };
        if let Some(first) = asked {
            return Err(first);
        }
        asked = Some(kind);
        cancel.stop(kind);
        ui.event(&Event::Note {
            text: "stopping after the request in flight; press Ctrl-C again to stop immediately".to_owned(),
        });
    }
}

/// Boxed here, so that the commands are compiled once, with the library, and not with each program that calls it.
fn dispatch<'a>(
    invocation: Invocation,
    outside: &'a mut Outside<'_>,
) -> LocalBoxFuture<'a, base::error::Result<commands::Ended>> {
    Box::pin(async move {
        match invocation {
            Invocation::Setup => commands::setup(outside).await,
            Invocation::Step(name) => match steps::find(&name) {
                Some(step) => commands::step(outside, step).await,
                None => commands::setup(outside).await,
            },
            Invocation::Render => commands::render(outside).await,
            Invocation::Upgrade => commands::upgrade(outside).await,
            Invocation::Rotate(which) => commands::rotate(outside, &which).await,
            Invocation::Teardown => commands::teardown(outside).await,
            Invocation::Status => commands::status(outside).await,
            Invocation::List => commands::list(outside).await,
            Invocation::Explain(id) => commands::explain(outside, id.as_deref()),
            Invocation::Topic(topic) => commands::topic(outside, topic),
            Invocation::PrintConfig => commands::print_config(outside).await,
            Invocation::PrintSchema => commands::print_schema(outside),
            Invocation::Completion(shell) => commands::script(outside, &shell),
            Invocation::Complete(words) => commands::complete(outside, words).await,
            Invocation::Man(words) => commands::man(outside, &words),
            Invocation::Version => commands::version(outside),
        }
    })
}

/// Reports the end and returns the exit code. The most important failure is printed last and sets the code.
fn finish(ui: &Ui, mut ended: commands::Ended, mut end: End) -> u8 {
    let exit = match ended.failures.first() {
        Some(failure) => failure.kind.exit_code(),
        None if ended.pending => Kind::Pending.exit_code(),
        None => 0,
    };
    if !ended.failures.is_empty() && !ended.changed && ended.text.is_empty() {
        "Nothing was changed.".clone_into(&mut ended.text);
    }
    // To decide against it is no error.
    if let [failure] = ended.failures.as_slice()
        && failure.id == Id::NotConfirmed
        && !ended.changed
    {
        ended.text = format!("Nothing was changed: {}.", failure.message);
        let lines = std::mem::take(&mut ended.failures[0].hints);
        if !lines.is_empty() {
            ui.event(&Event::Next { lines });
        }
        ended.failures.clear();
    }
    for failure in ended.failures.iter().rev() {
        ui.event(&Event::Failed(failure.clone()));
    }
    let commands::Ended { changed, text, last, mut status, left, .. } = ended;
    if let Some(deployment) = &mut end.deployment {
        deployment.left = left;
    }
    status.sort_unstable();
    status.dedup();
    ui.event(&Event::Finished(Box::new(End { exit, changed, text, last, status, ..end })));
    exit
}
