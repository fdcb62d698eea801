//! outrigger puts a GitLab Runner on a VM outside a Kubernetes cluster, lets it run every job as a pod
//! inside, proves it, and takes it away again.
//!
//! The life of `outrigger setup`: [`cli`] parses, [`session`] resolves [`settings`] (flag, environment,
//! file, record, default), reads the kubeconfig and connects through [`cluster`]; [`engine`] lets every
//! step of [`steps`] look and decide, which makes the plan; [`report`] and [`ui`] show it; applied, each
//! creation goes through the journal in [`context`] onto disk ([`record`]) before and after it happens;
//! [`proof`] tries the credential as the runner will use it; [`script`] makes the launch script.
//!
//! Where to change what: a flag's wording or default, `settings/table.rs`; a question, `wizard.rs`; the
//! rights granted, `rules.rs`; the script, `templates/launch.sh` and `script/`; the way to a server,
//! `proxy.rs`; a server error's wording, `cluster/refusal.rs`; what counts as ours, `ownership.rs`, and without a record `witness.rs`; exit codes, `error.rs`; a line of output,
//! `report/`; the order of steps, `steps/mod.rs`.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::Instant;

pub mod access;
pub mod address;
pub mod admission;
pub mod borrowed;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod context;
pub mod deletion;
pub mod delivery;
pub mod engine;
pub mod error;
pub mod excess;
pub mod explain;
pub mod files;
pub mod gitlab;
pub mod grant;
pub mod inhabitants;
pub mod inputs;
pub mod instance;
pub mod issued;
pub mod job_pod;
pub mod jobs;
pub mod limits;
pub mod looks;
pub mod makers;
pub mod mark;
pub mod message;
pub mod names;
pub mod object;
pub mod ownership;
pub mod permissions;
pub mod pipeline;
pub mod plan;
pub mod proof;
pub mod proxy;
pub mod record;
pub mod remains;
pub mod report;
pub mod rules;
pub mod runner;
pub mod script;
pub mod secret;
pub mod session;
pub mod settings;
pub mod steps;
pub mod template;
pub mod tls;
pub mod token;
pub mod trust;
pub mod ui;
pub mod witness;
pub mod wizard;
pub mod yaml;

use cli::Invocation;
use error::{Failure, Kind};
use limits::Cancel;
use report::{Event, Reporter as _};
use session::Outside;
use settings::RunOptions;
use ui::Ui;
use wizard::Ask;

/// Makes ring the process's TLS provider: two libraries would otherwise each look for their own and
/// find none. Call it first; a second call does nothing.
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
    let (invocation, matches) = match cli::parse(args, &commands::step_help()) {
        Ok(parsed) => parsed,
        Err(error) => return make_ui(&RunOptions::default()).usage(error),
    };
    let options = match settings::run_options(&matches, env) {
        Ok(options) => options,
        Err(failure) => {
            let ui = make_ui(&RunOptions::default());
            return finish(
                &ui,
                started,
                &mut commands::Ended {
                    failures: vec![failure],
                    changed: false,
                    text: String::new(),
                    last: String::new(),
                    pending: false,
                },
            );
        }
    };
    let ui = Rc::new(make_ui(&options));
    let cancel = Cancel::default();
    let mut outside = Outside {
        matches: &matches,
        env,
        options: &options,
        ui: Rc::clone(&ui),
        cancel: cancel.clone(),
        intake: Rc::new(files::Intake::new(&cancel, {
            let ui = Rc::clone(&ui);
            move |text| ui.event(&Event::Warning { text })
        })),
        ask,
    };
    let ended = {
        let work = dispatch(invocation, &mut outside);
        tokio::pin!(work);
        match interruptible(work, &cancel, &ui).await {
            Ok(ended) => ended,
            Err(kind) => {
                // What the request in flight did is not known: it may well have changed something.
                let text = "Stopped at once: the same command, or teardown, finds out what is there.";
                ui.event(&Event::Finished {
                    exit: kind.exit_code(),
                    changed: true,
                    seconds: started.elapsed().as_secs_f64(),
                    text: text.to_owned(),
                    last: String::new(),
                });
                return kind.exit_code();
            }
        }
    };
    let mut ended = ended.unwrap_or_else(|failure| commands::Ended {
        failures: vec![failure],
        changed: false,
        text: String::new(),
        last: String::new(),
        pending: false,
    });
    finish(&ui, started, &mut ended)
}

/// Drives the work; the first signal asks it to stop after the request in flight, the second ends it,
/// which is an error of the kind that the first one was.
async fn interruptible<T>(
    mut work: std::pin::Pin<&mut impl Future<Output = T>>,
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
    loop {
        let kind = tokio::select! {
            done = &mut work => return Ok(done),
            _ = interrupt.recv() => Kind::Interrupted,
            _ = terminate.recv() => Kind::Terminated,
        };
        if let Some(first) = asked {
            return Err(first);
        }
        asked = Some(kind);
        cancel.stop(kind);
        ui.event(&Event::Note {
            text: "stopping after the request in flight; once more to stop at once".to_owned(),
        });
    }
}

async fn dispatch(invocation: Invocation, outside: &mut Outside<'_>) -> error::Result<commands::Ended> {
    match invocation {
        Invocation::Setup => commands::forward(outside, None).await,
        Invocation::Step(name) => commands::forward(outside, Some(&name)).await,
        Invocation::Teardown => commands::teardown(outside).await,
        Invocation::Status => commands::status(outside).await,
        Invocation::List => commands::list(outside).await,
        Invocation::Explain(id) => {
            let page = explain::explain(&id).ok_or_else(|| {
                Failure::new("OR0202", Kind::Usage, format!("there is no failure {id:?}"))
                    .hint("the id stands at the beginning of each error, for example OR0306")
            })?;
            let _ = outside.ui.product(outside.ui.human().prose(page).as_bytes());
            Ok(commands::Ended::well(false, ""))
        }
    }
}

/// Says how it ended. The most telling failure comes last, where the eye is, and names the code.
fn finish(ui: &Ui, started: Instant, ended: &mut commands::Ended) -> u8 {
    let exit = match ended.failures.first() {
        Some(failure) => failure.kind.exit_code(),
        None if ended.pending => Kind::Pending.exit_code(),
        None => 0,
    };
    if !ended.failures.is_empty() && !ended.changed && ended.text.is_empty() {
        "Nothing was changed.".clone_into(&mut ended.text);
    }
    for failure in ended.failures.iter().rev() {
        ui.event(&Event::Failed(failure.clone()));
    }
    ui.event(&Event::Finished {
        exit,
        changed: ended.changed,
        seconds: started.elapsed().as_secs_f64(),
        text: std::mem::take(&mut ended.text),
        last: std::mem::take(&mut ended.last),
    });
    exit
}
