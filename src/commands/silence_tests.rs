//! Nothing is silent while a proof takes its time, by the clock of tokio, which runs ahead while all wait.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::status::prove;
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::event::{Event, Reporter};
use crate::base::files::Intake;
use crate::base::request::{Deadline, Effect, Limits, Sender};
use crate::cluster::{self, Cluster, Refusal, Target};
use crate::deployment::notes::{Journal, Notes};
use crate::deployment::plan::Line;
use crate::engine::{self, Watch};
use crate::gitlab;
use crate::interruptible;
use crate::machine;
use crate::output::ui::{Streams, Ui};
use crate::settings::{Output, RunOptions};
use crate::steps::contract::{
    Decided, Deciding, Info, Never, Outcome, Products, Purpose, Reads, Step, Writes,
};
use crate::steps::fixture::World;

/// Requests of the proof, one after the other, and the time that each takes.
const REQUESTS: u32 = 50;
const LATENCY: Duration = Duration::from_millis(700);

struct SlowProof;

impl Step for SlowProof {
    const INFO: Info = Info { name: "slow-proof", ..Info::DEFAULT };
    type Seen = ();
    type Act = Never;
    type Undo = Never;

    async fn observe(&self, _: Reads<'_>, _: Purpose) -> Result<()> {
        Ok(())
    }

    fn decide(&self, _: &Deciding<'_>, (): &()) -> Decided<Never> {
        Line::keep("kept").into()
    }

    async fn apply(&self, _: Writes<'_>, act: Never) -> Result<Outcome<Never>> {
        match act {}
    }

    async fn prove(&self, r: Reads<'_>, _: &Products) -> Result<Option<String>> {
        let sender = Sender::new("https://k.test", &r.cluster.limits, 1, (LATENCY, LATENCY));
        for _ in 0..REQUESTS {
            let slow = async || {
                sleep(LATENCY).await;
                Ok::<_, Refusal>(())
            };
            sender.send("ask", Effect::Reads, slow).await?;
        }
        Ok(Some("works".to_owned()))
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }
}

/// When something was written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<Instant>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").push(Instant::now());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug)]
enum By {
    /// The end of a step of `setup`.
    Setup,
    Status,
}

/// The longest time without output and, on a terminal, without a spinner; and what the spinners said.
async fn silence(by: By, is_terminal: bool, output: Output) -> (Duration, Vec<String>) {
    let written = Written::default();
    let env = BTreeMap::from([("TERM".to_owned(), "xterm".to_owned())]);
    let options = RunOptions { output, ..RunOptions::default() };
    let streams = Streams { stderr_tty: is_terminal, animate: is_terminal, ..Streams::default() };
    let stream = || Box::new(written.clone());
    let ui = Rc::new(Ui::new(stream(), stream(), streams, &env, &options));
    let cancel = Cancel::default();
    let limits = Limits {
        deadline: Deadline::at((Instant::now() + Duration::from_secs(300)).into_std()),
        request_timeout: Duration::from_secs(10),
        cancel: cancel.clone(),
        notice: Rc::new(|_, _, _| {}),
        trace: None,
    };
    let World { run, record, .. } = World::new(&[]);
    let (run, notes) = (Rc::new(run), Rc::new(Notes::new(record, true)));
    let reporter: Rc<dyn Reporter> = Rc::clone(&ui) as Rc<dyn Reporter>;
    let intake = Rc::new(Intake::default());
    let journal = Journal::new(Rc::clone(&notes), PathBuf::from("/nowhere"));
    let target = Target::absent("k", "https://k.test").expect("a target");
    let api = Cluster::absent(&target, &limits);
    let (a, b, c) = (|| Rc::clone(&run), || Rc::clone(&notes), || Rc::clone(&reporter));
    let cluster = cluster::view::View::new(a(), b(), target, limits.clone(), c(), api);
    let access = gitlab::view::Access::default();
    let gitlab = gitlab::view::View::new(a(), b(), limits.clone(), c(), Rc::clone(&intake), access);
    let machine = machine::view::View::new(a(), b(), limits, (c(), Rc::clone(&intake)), &env, false);
    let cluster = cluster::view::Hand::new(cluster, journal.clone());
    let gitlab = gitlab::view::Hand::new(gitlab, journal.clone());
    let machine = machine::view::Hand::new(machine, journal.clone());
    let products = Products::default();
    let reads = Reads {
        run: &run,
        notes: &notes,
        cluster: &cluster,
        gitlab: &gitlab,
        machine: &machine,
        intake: &intake,
        progress: &*reporter,
    };
    let writes = Writes {
        reads,
        cluster: &cluster,
        gitlab: &gitlab,
        machine: &machine,
        journal: &journal,
        products: &products,
    };
    let work = async {
        // Not at a full second of the clock that the lines of progress come by.
        sleep(Duration::from_millis(300)).await;
        ui.event(&Event::Note { text: "a line".to_owned() });
        let mut plan = engine::plan(reads, &[&SlowProof]).await;
        match by {
            By::Setup => {
                let watch = Watch { stop: &|| None, mutations: &|| 0 };
                engine::apply(writes, &mut plan, &watch).await.map(drop).expect("proven");
            }
            By::Status => assert!(prove(&ui, reads, &products, &plan).await.is_empty()),
        }
    };
    let work = Box::pin(work);
    let (started, seen) = (Instant::now(), Cell::new(Instant::now()));
    let (longest, mut said) = (Cell::new(Duration::ZERO), Vec::new());
    let watch = async {
        loop {
            let last = written.0.lock().expect("lock").last().copied();
            let spinners = ui.spinners();
            let now = if spinners.is_empty() { last.unwrap_or(started) } else { Instant::now() };
            seen.set(seen.get().max(now));
            longest.set(longest.get().max(seen.get().elapsed()));
            said.extend(spinners);
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        ended = interruptible(work, &cancel, &ui) => assert!(ended.is_ok(), "no signal"),
        () = watch => {}
    }
    assert!(started.elapsed() >= LATENCY * REQUESTS, "the proof takes its time");
    said.dedup();
    (longest.get(), said)
}

#[tokio::test(start_paused = true)]
async fn a_slow_proof_is_seen_within_a_second_on_a_terminal() {
    for (by, words) in [(By::Setup, "slow-proof"), (By::Status, "testing the result of slow-proof")] {
        let (longest, said) = silence(by, true, Output::Human).await;
        assert!(longest <= Duration::from_secs(1), "{by:?}: {longest:?} of silence");
        assert!(said.iter().any(|text| text.contains(words)), "{by:?}: {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_proof_is_told_every_ten_seconds_elsewhere() {
    for output in [Output::Human, Output::Json] {
        for by in [By::Setup, By::Status] {
            let (longest, _) = silence(by, false, output).await;
            assert!(longest <= Duration::from_secs(10), "{by:?} {output:?}: {longest:?} of silence");
            assert!(longest >= Duration::from_secs(8), "{by:?} {output:?}: a line every {longest:?}");
        }
    }
}
