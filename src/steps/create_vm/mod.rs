//! Makes the Lightsail instance of `--create-vm`, opens its port 22 for a delivery and closes it again, and deletes it.

mod make;
mod offer;
mod remove;

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use self::offer::Offer;
use crate::base::address::Parts;
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::{self, Vm};
use crate::deployment::run::{Part, Run};
use crate::machine::lightsail::{Instance, Refusal};
use crate::machine::vm;
use crate::settings::{Need, Risk};
use crate::steps::contract::{
    Decided, Deciding, Forecast, Info, Milestone, Outcome, Purpose, Reads, Step, Writes,
};
use crate::steps::is_delivery_due;

pub struct CreateVm;

/// After a lost answer an instance may not be visible for this long.
const LATE: Duration = Duration::from_secs(60);

pub enum Seen {
    /// There is no VM and none is asked for.
    None,
    /// Teardown with `--vm-gone`.
    Gone,
    Looked(Box<Look>),
}

pub struct Look {
    account: String,
    region: String,
    live: Option<Instance>,
    /// If there is no instance yet, what would be made.
    offer: Option<Offer>,
    /// Why a VM elsewhere cannot reach the API server at the runner's URL, and its host.
    private: Option<(&'static str, String)>,
    /// This run has opened port 22 to look inside.
    entered: bool,
    /// The static IP of the record is there and is this one.
    static_ip: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Create(Offer),
    /// Completes an instance that is there, and opens port 22 until the script was delivered.
    Open,
    /// Completes an instance that is there, and leaves only the planned ports open.
    Close,
}

#[derive(Clone)]
pub enum Undo {
    /// Leaves only the planned ports open.
    Close,
    /// Deletes the instance with this ARN.
    Delete { arn: String },
    /// Releases the recorded static IP.
    Release,
}

impl Step for CreateVm {
    const INFO: Info = Info {
        name: "create-vm",
        about: "Create an Amazon Lightsail instance for the runner",
        long: "Creates one Lightsail instance with your AWS credentials and without user data. Port 22 is open only while \
               run-script delivers the launch script there, with the key and the host keys that AWS returns. Image and size are \
               chosen from what the region offers, and shown with their price before anything is created. An instance that \
               outrigger did not create is never changed; teardown deletes the one that it created.\n\n\
               The credentials are those of AWS's own tools: a profile that is named (--aws-profile, AWS_PROFILE) and \
               no other, else the environment, else the default profile.",
        keys: &[
            "vmRegion",
            "vmZone",
            "vmImage",
            "vmSize",
            "vmStaticIp",
            "vmArn",
            "sshFrom",
            "sshAfter",
            "awsProfile",
            "awsMetadata",
            "wait",
            "accept",
        ],
        flags: &["print-policy"],
        gitlab: Need::Optional,
        part: Some(Part::Vm),
        is_wanted: |settings, _| settings.create_vm,
        undo_needs_cluster: false,
        holds_until: Some(Milestone::ScriptDelivered),
        ..Info::DEFAULT
    };
    type Seen = Seen;
    type Act = Act;
    type Undo = Undo;

    async fn observe(&self, r: Reads<'_>, why: Purpose) -> Result<Seen> {
        let noted = r.notes.record().vm.clone();
        let settings = &r.run.settings;
        if why == Purpose::Teardown && r.run.options.vm_gone {
            return Ok(Seen::Gone);
        }
        if why == Purpose::Teardown && noted.is_none() && settings.vm_arn.is_none() {
            return Ok(Seen::None);
        }
        if !settings.create_vm && noted.is_none() && settings.vm_arn.is_none() {
            if r.run.includes(Part::Host) {
                return Ok(Seen::None);
            }
            return Err(Failure::new(Id::MissingInput, "no VM is requested").hint("set --create-vm"));
        }
        let looked = look(r, why, noted.as_ref()).await;
        looked.map(|look| Seen::Looked(Box::new(look))).map_err(|failure| match why {
            Purpose::Teardown => failure.hint(("if the VM no longer exists", Command::teardown("--vm-gone"))),
            _ => failure,
        })
    }

    fn decide(&self, d: &Deciding<'_>, seen: &Seen) -> Decided<Act> {
        let Seen::Looked(look) = seen else { return Decided::lines(Vec::new()) };
        let was_made = d.notes.record().vm.as_ref().is_some_and(|vm| !vm.arn.is_empty());
        if let Some((word, host)) = &look.private
            && !was_made
            && !d.run.settings.accept.contains(&Risk::UnreachableEndpoint)
        {
            let failure = Failure::new(
                Id::PrivateEndpoint,
                format!("a VM on Lightsail cannot reach the API server at {host}"),
            );
            return Line::refuse(
                failure
                    .detail("because", format!("it is {word}"))
                    .hint("name the URL that the runner reaches: --kubernetes-host URL")
                    .hint("or, if a VPN or a peering leads there, accept it: --accept unreachable-endpoint"),
            )
            .into();
        }
        match &look.live {
            None => {
                let line = made(d, look);
                let forecast =
                    Forecast { vm_is_new: line.decision == Decision::Create, ..Forecast::default() };
                Decided { lines: vec![line], findings: Vec::new(), forecast }
            }
            Some(live) => Decided::lines(kept(d, look, live)),
        }
    }

    fn decide_undo(&self, d: &Deciding<'_>, seen: &Seen) -> Vec<Line<Undo>> {
        let record = d.notes.record();
        let noted = record.vm.as_ref();
        let look = match seen {
            Seen::None => return Vec::new(),
            Seen::Gone => {
                let name = noted.map_or("the VM", |vm| vm.name.as_str());
                let ip = noted.map(|vm| vm.static_ip.as_str()).filter(|ip| !ip.is_empty());
                let ip = ip.map(|ip| format!(" and static IP {ip}")).unwrap_or_default();
                return vec![Line::keep(format!("{name}{ip} (--vm-gone: AWS is not asked)"))];
            }
            Seen::Looked(look) => look,
        };
        let mut lines = Vec::new();
        match &look.live {
            None => {
                let name = noted.map_or_else(|| vm::name(&d.run.names.deployment), |vm| vm.name.clone());
                lines.push(Line::keep(format!("VM {name} (already gone)")));
            }
            Some(live) => {
                if let Some(failure) = foreign(d.run, noted, live) {
                    lines.push(Line::refuse(failure));
                } else {
                    let price = priced(noted);
                    lines.push(
                        Line::new(
                            Decision::Remove,
                            format!("VM {} in {}{price}", live.name, look.region),
                            Undo::Delete { arn: live.arn.clone() },
                        )
                        .detail("with everything on its disk; snapshots that others made stay")
                        .about(Target::Vm(live.name.clone())),
                    );
                }
            }
        }
        if let Some(ip) = noted.map(|vm| vm.static_ip.as_str()).filter(|_| look.static_ip) {
            lines.push(Line::new(Decision::Remove, format!("static IP {ip}"), Undo::Release));
        }
        lines
    }

    async fn apply(&self, w: Writes<'_>, act: Act) -> Result<Outcome<Undo>> {
        let opens = match act {
            // Without run-script nothing enters.
            Act::Create(_) => w.run.includes(Part::Host),
            Act::Open => true,
            Act::Close => false,
        };
        let done = async {
            let writer = w.machine.lightsail_hand().await?;
            if let Act::Create(offer) = &act {
                make::create(w, &writer, offer).await?;
            }
            make::complete(w, &writer, opens).await
        };
        match done.await {
            Ok(text) if opens => Ok(Outcome { text, held: vec![Undo::Close] }),
            Ok(text) => match w.machine.leave().await? {
                Some(closed) => Ok(format!("{text}; {closed}").into()),
                None => Ok(text.into()),
            },
            // Its ports do not stay open.
            Err(failure) => match w.machine.leave().await {
                Ok(_) => Err(failure),
                Err(mut left) => {
                    left.also.push(failure);
                    Err(left)
                }
            },
        }
    }

    async fn undo(&self, w: Writes<'_>, acts: Vec<Undo>) -> Result<String> {
        let (mut texts, mut failures) = (Vec::new(), Vec::new());
        for act in acts {
            let done = match act {
                // It may be attached to what is still there.
                Undo::Release if !failures.is_empty() => continue,
                Undo::Close => w.machine.leave().await.map(Option::unwrap_or_default),
                Undo::Delete { arn } => remove::delete(w, &arn).await,
                Undo::Release => remove::release(w).await,
            };
            match done {
                Ok(text) => texts.push(text),
                Err(failure) => failures.push(failure),
            }
        }
        texts.retain(|text| !text.is_empty());
        match Failure::together(failures) {
            Some(failure) => Err(failure),
            None => Ok(texts.join("; ")),
        }
    }
}

async fn look(r: Reads<'_>, why: Purpose, noted: Option<&Vm>) -> Result<Look> {
    let (api, identity) = r.machine.lightsail().await?;
    let mut live = r.machine.instance().await?.cloned();
    let is_unclear = noted.is_some_and(|vm| vm.arn.is_empty() && !vm.nonce.is_empty());
    if why == Purpose::Teardown && live.is_none() && is_unclear {
        // The answer of its creation was lost, and it may not be visible yet.
        let seen = wait::until(
            Pace::new(&r.machine.limits, 1000, 5000).or_within(LATE),
            |(), waited| {
                r.progress.waiting(CreateVm::INFO.name, "an instance that may have been made", waited);
            },
            async || {
                let name = noted.map(|vm| vm.name.as_str()).unwrap_or_default();
                Ok(api.instance(name).await.map_err(Failure::from)?.map_or(Continue(()), Break))
            },
        );
        live = seen.await?.ok();
    }
    let mut look = Look {
        account: identity.account.clone(),
        region: api.region().to_owned(),
        live,
        offer: None,
        private: None,
        entered: r.machine.is_open(),
        static_ip: false,
    };
    if let Some(ip) = noted.map(|vm| vm.static_ip.as_str()).filter(|ip| !ip.is_empty()) {
        look.static_ip =
            why == Purpose::Teardown && api.static_ip(ip).await.map_err(Failure::from)?.is_some();
    }
    if why != Purpose::Teardown && look.live.is_none() {
        let url = match &r.run.settings.kubernetes_host {
            Some(url) => url.value.clone(),
            None => r.cluster.target.endpoint.url.clone(),
        };
        if let Ok(parts) = Parts::of(&url) {
            look.private = vm::private_reach(&parts.host).await.map(|word| (word, parts.host.clone()));
        }
        let offers = async {
            let (regions, bundles, blueprints) = tokio::join!(api.regions(), api.bundles(), api.blueprints());
            Ok::<_, Refusal>((regions?, bundles?, blueprints?))
        };
        let (regions, bundles, blueprints) = offers.await.map_err(Failure::from)?;
        look.offer =
            Some(offer::offer(&r.run.settings, noted, api.region(), &regions, &bundles, &blueprints)?);
    }
    Ok(look)
}

/// The line of an instance that is to be made.
fn made(d: &Deciding<'_>, look: &Look) -> Line<Act> {
    if let Some(arn) = d.run.settings.vm_arn.as_ref().filter(|_| d.notes.record().vm.is_none()) {
        let failure = Failure::new(Id::AwsNotFound, format!("there is no instance {}", arn.value));
        return Line::refuse(failure.hint("to make a new VM, omit --vm-arn"));
    }
    let Some(offer) = &look.offer else { return Line::not_checked("what the region offers") };
    let record = d.notes.record();
    let name = record.vm.as_ref().map_or_else(|| vm::name(&d.run.names.deployment), |vm| vm.name.clone());
    let text = format!(
        "VM {name}: {}, {} ({} GB), {}, in {}",
        offer.image,
        offer.size,
        offer.ram,
        record::price(offer.cents),
        offer.zone
    );
    let settings = &d.run.settings;
    let mut line = Line::new(Decision::Create, text, Act::Create(offer.clone()))
        .detail(format!("in AWS account {}", look.account))
        .detail(if d.run.includes(Part::Host) {
            format!(
                "open: {}, until the script has run there; then {}",
                vm::shown(&[vm::door(settings)]),
                vm::shown(&vm::after(settings))
            )
        } else {
            format!("open: {}", vm::shown(&vm::after(settings)))
        })
        .detail("the region's LightsailDefaultKeyPair is made by AWS if there is none, and stays")
        .about(Target::Vm(name));
    if record.vm.as_ref().is_some_and(|vm| !vm.arn.is_empty()) {
        line = line.detail("the recorded VM is gone");
    }
    if settings.vm_static_ip {
        line = line.detail("with a static IP, which costs extra while it is not attached to a running VM");
    }
    line
}

/// The price behind a comma, where it is known.
fn priced(noted: Option<&Vm>) -> String {
    noted.filter(|vm| vm.cents > 0).map(|vm| format!(", {}", vm.price())).unwrap_or_default()
}

/// The lines of an instance that is there.
fn kept(d: &Deciding<'_>, look: &Look, live: &Instance) -> Vec<Line<Act>> {
    let record = d.notes.record();
    let noted = record.vm.as_ref();
    let settings = &d.run.settings;
    if let Some(failure) = foreign(d.run, noted, live) {
        return vec![Line::refuse(failure)];
    }
    let name = &live.name;
    if !["running", "pending"].contains(&live.state.as_str()) && !is_delivery_due(d) {
        let text = format!("VM {name} is {}: its runner takes no jobs", live.state);
        let how = format!("start it in {}, in Lightsail's console or with the AWS CLI", look.region);
        return vec![Line::unhealthy(text).detail(how)];
    }
    if !["running", "pending"].contains(&live.state.as_str()) {
        let failure = Failure::new(Id::VmStopped, format!("{name} is {}", live.state))
            .detail("because", "outrigger does not start what somebody has stopped")
            .hint(format!("start it in {}, in Lightsail's console or with the AWS CLI", look.region));
        return vec![Line::refuse(failure)];
    }
    let after = vm::after(settings);
    let address = live.address.map(|address| address.to_string()).unwrap_or_default();
    let is_complete = noted.is_none_or(|vm| !vm.arn.is_empty() && vm.address == address)
        && !address.is_empty()
        && live.tokens_required
        && (!settings.vm_static_ip || live.has_static_ip);
    let price = priced(noted);
    let mut lines = Vec::new();
    if is_delivery_due(d) {
        lines.push(
            Line::new(
                Decision::Update,
                format!("VM {name}: {}, until the script has run there", vm::shown(&[vm::door(settings)])),
                Act::Open,
            )
            .about(Target::Vm(name.clone())),
        );
    } else if vm::is_wider(&live.ports, &after) || (!look.entered && noted.is_some_and(|vm| vm.open)) {
        let text = if vm::is_same(&live.ports, &after) {
            format!("VM {name}: its ports, which an interrupted run may have opened")
        } else {
            format!("VM {name}: {} -> {}", vm::shown(&live.ports), vm::shown(&after))
        };
        lines.push(Line::new(Decision::Update, text, Act::Close).about(Target::Vm(name.clone())));
    } else if !is_complete {
        let text = if settings.vm_static_ip && !live.has_static_ip {
            format!(
                "VM {name}: a static IP in place of {address}, which costs extra while it is not attached"
            )
        } else if address.is_empty() {
            format!("VM {name}: {}, not complete yet", live.state)
        } else {
            format!("VM {name}: {address}, protected metadata")
        };
        lines.push(Line::new(Decision::Update, text, Act::Close).about(Target::Vm(name.clone())));
    } else {
        let text = format!("VM {name}: {}, {address}, {}{price}", live.state, vm::shown(&live.ports));
        lines.push(Line::keep(text).about(Target::Vm(name.clone())));
        if vm::is_wider(&after, &live.ports) {
            lines.push(Line::warning(format!("less is open than --ssh-after says: {}", vm::shown(&after))));
        }
    }
    for (flag, is, wanted) in [
        ("--vm-zone", &live.zone, &settings.vm_zone),
        ("--vm-image", &live.image, &settings.vm_image),
        ("--vm-size", &live.size, &settings.vm_size),
    ] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| wanted.value != *is) {
            lines.push(Line::warning(format!(
                "{flag} {}: {name} has {is}, and a VM is not changed; teardown and setup make a new one",
                wanted.value
            )));
        }
    }
    lines
}

/// Why an instance is not this deployment's; its name alone says nothing.
fn foreign(run: &Run, noted: Option<&Vm>, live: &Instance) -> Option<Failure> {
    let asked = run.settings.vm_arn.as_ref().map(|arn| arn.value.as_str());
    let (is_ours, why) = match noted {
        Some(vm) if !vm.arn.is_empty() => {
            (vm.arn == live.arn, "the recorded instance was deleted, and another one was created since")
        }
        Some(vm) => (
            !vm.nonce.is_empty() && live.tags.get(vm::NONCE) == Some(&vm.nonce),
            "it does not have the mark of the creation that this machine has recorded",
        ),
        None => (asked == Some(live.arn.as_str()), "this machine has no record of having made it"),
    };
    if is_ours {
        return None;
    }
    let tags: Vec<String> = live.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut failure = Failure::new(
        Id::ForeignVm,
        format!("the instance {} exists and was not created by this deployment", live.name),
    )
    .detail("because", why)
    .detail("it was created", format!("{:.0}", live.created))
    .detail("its ARN", live.arn.clone());
    if !tags.is_empty() {
        failure = failure.detail("its tags", tags.join(", "));
    }
    if noted.is_none() {
        failure = failure.hint("if it is this deployment's, name it: --vm-arn ARN");
    }
    Some(failure.hint("use another name, --deployment NAME, or delete the instance yourself if it is unused"))
}

#[cfg(test)]
mod tests;
