//! A complete step, and the guarantees of the contract, which the compiler checks.

use super::*;
use crate::base::error::Result;
use crate::cluster::view::View;
use crate::steps::fixture::World;

/// Notes in the record that the Role has changed.
struct CheckDrift;

#[derive(Clone)]
enum Act {
    Note(String),
}

impl Step for CheckDrift {
    const INFO: Info = Info { name: "check-drift", ..Info::DEFAULT };
    type Seen = bool;
    type Act = Act;
    type Undo = Never;

    async fn observe(&self, r: Reads<'_>, _: Purpose) -> Result<bool> {
        Ok(r.cluster.are_ours(&[r.run.names.role()]).await)
    }

    fn decide(&self, _: &Deciding<'_>, is_ours: &bool) -> Decided<Act> {
        if *is_ours {
            Line::keep("kept").into()
        } else {
            Line::new(Decision::Update, "a note", Act::Note("gone".to_owned())).into()
        }
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Never>> {
        match act {
            Act::Note(text) => w.journal.write(|record| record.script_target = text)?,
        }
        Ok("noted".to_owned().into())
    }

    async fn undo(&self, _: Writes<'_>, _: Vec<Never>) -> Result<String> {
        Ok(String::new())
    }
}

fn plan(seen: Result<bool>, why: Purpose) -> Box<dyn Planned> {
    World::new(&[]).deciding(|d| Box::new(Plan::new(&CheckDrift, seen, why, d)))
}

#[test]
fn plan_has_the_lines_of_its_purpose() {
    let decisions = |why| plan(Ok(false), why).lines().iter().map(|line| line.decision).collect::<Vec<_>>();
    assert_eq!(decisions(Purpose::Setup), [Decision::Update]);
    assert_eq!(decisions(Purpose::Again), [Decision::Update]);
    assert_eq!(decisions(Purpose::Teardown), []);
}

#[test]
fn failed_observation_is_the_only_line() {
    for why in [Purpose::Setup, Purpose::Teardown] {
        let plan = plan(Err(Failure::new(Id::ClusterError, "no response")), why);
        let lines = plan.lines();
        assert_eq!(lines.iter().map(|line| line.decision).collect::<Vec<_>>(), [Decision::Refuse]);
        let ready = plan.ready(&World::new(&[]).run);
        assert_eq!(ready.expect_err("the observation failed").id, Id::ClusterError);
    }
}

/// Methods that [`View`] must not have. An inherent method of the same name takes precedence in the calls below, which
/// then have the wrong number of arguments.
trait NoWrites {
    fn create(&self) {}
    fn apply(&self) {}
    fn merge(&self) {}
    fn replace(&self) {}
    fn delete(&self) {}
    fn request_token(&self) {}
    fn deliver(&self) {}
    fn resume(&self) {}
}

impl NoWrites for View {}

impl NoWrites for crate::machine::view::View {}

#[test]
fn observing_cannot_write() {
    let _ = |r: Reads<'_>| {
        let Reads { run: _, notes: _, cluster, gitlab: _, machine, intake: _, progress: _ } = r;
        cluster.create();
        cluster.apply();
        cluster.merge();
        cluster.replace();
        cluster.delete();
        cluster.request_token();
        machine.deliver();
        machine.resume();
    };
}

#[test]
fn deciding_has_no_client() {
    let _ = |d: Deciding<'_>| {
        // Without `..`: a new field does not compile here.
        let Deciding { run: _, notes: _, forecast: _ } = d;
    };
}
