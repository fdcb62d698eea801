//! Makes the Lightsail instance of `--create-vm`, opens its port 22 for a delivery and closes it again, and deletes it.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use crate::base::address::Parts;
use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::files;
use crate::base::wait::{self, Pace};
use crate::deployment::plan::{Decision, Line, Target};
use crate::deployment::record::{self, Vm};
use crate::deployment::run::{Part, Run};
use crate::machine::lightsail::{
    Blueprint, Bundle, Class, Instance, NewInstance, Operation, Port, Refusal, Region, Writer, policy,
};
use crate::machine::vm;
use crate::settings::{Need, Risk, Settings};
use crate::steps::contract::{
    Decided, Deciding, Forecast, Info, Milestone, Outcome, Purpose, Reads, Step, Writes,
};
use crate::steps::is_delivery_due;

pub struct CreateVm;

/// The images that are taken without `--vm-image`, the first one that the region offers.
const IMAGES: &[&str] = &["ubuntu_24_04", "debian_12", "debian_13", "ubuntu_22_04"];
/// GB of memory of a VM, at least: an update of packages beside four jobs' traffic.
const LEAST: f64 = 1.0;
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

/// What the account's region offers for the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    zone: String,
    image: String,
    size: String,
    /// GB.
    ram: f64,
    /// US cents a month.
    cents: u64,
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
        about: "Make an Amazon Lightsail instance for the runner",
        long: "Makes one Lightsail instance with your AWS credentials, with no user data, and with port 22 open only while \
               run-script delivers the launch script there, with a key and host keys that AWS tells. Image and size are \
               chosen from what the region offers, and shown with their price before anything is made. An instance that \
               outrigger did not make is never changed; teardown deletes the one that it made.\n\n\
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
            return Err(Failure::new(Id::MissingInput, "no VM is asked for").hint("set --create-vm"));
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
        let opens = act != Act::Close;
        let done = async {
            let writer = w.machine.lightsail_hand().await?;
            if let Act::Create(offer) = &act {
                create(w, &writer, offer).await?;
            }
            complete(w, &writer, opens).await
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
                Undo::Delete { arn } => delete(w, &arn).await,
                Undo::Release => release(w).await,
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
        look.offer = Some(offer(&r.run.settings, noted, api.region(), &regions, &bundles, &blueprints)?);
    }
    Ok(look)
}

/// Chooses zone, image and size; fails with OR0362 (exit 3) for one that is not there.
fn offer(
    settings: &Settings,
    noted: Option<&Vm>,
    region: &str,
    regions: &[Region],
    bundles: &[Bundle],
    blueprints: &[Blueprint],
) -> Result<Offer> {
    let lack = |what: String, choices: Vec<&str>| {
        let failure = Failure::new(Id::NotOffered, what);
        if choices.is_empty() { failure } else { failure.detail("it offers", choices.join(", ")) }
    };
    let asked = |given: &Option<crate::settings::Sourced<String>>, noted: Option<&String>| {
        given.as_ref().map(|given| given.value.clone()).or_else(|| noted.cloned())
    };
    let mut zones: Vec<&str> = regions
        .iter()
        .filter(|one| one.name == region)
        .flat_map(|one| &one.zones)
        .filter(|zone| zone.state == "available")
        .map(|zone| zone.name.as_str())
        .collect();
    zones.sort_unstable();
    let zone = match asked(&settings.vm_zone, noted.map(|vm| &vm.zone)) {
        Some(zone) if zones.contains(&zone.as_str()) => zone,
        Some(zone) => {
            return Err(lack(format!("{region} has no available zone {zone}"), zones)
                .hint("choose one: --vm-zone ZONE"));
        }
        None => {
            let names = || regions.iter().map(|one| one.name.as_str()).collect();
            let none = || lack(format!("Lightsail has no available zone in {region}"), names());
            let first =
                zones.first().ok_or_else(|| none().hint("choose another region: --vm-region REGION"))?;
            (*first).to_owned()
        }
    };
    let systems: Vec<&Blueprint> = blueprints
        .iter()
        .filter(|one| one.is_active && one.platform == "LINUX_UNIX" && one.kind == "os")
        .collect();
    let named = |id: &str| systems.iter().copied().find(|one| one.id == id);
    let ids = || systems.iter().map(|one| one.id.as_str()).collect();
    let image = match asked(&settings.vm_image, noted.map(|vm| &vm.image)) {
        Some(id) => named(&id).ok_or_else(|| {
            lack(format!("{region} has no Linux image {id}"), ids()).hint("choose one: --vm-image BLUEPRINT")
        })?,
        None => IMAGES.iter().find_map(|id| named(id)).ok_or_else(|| {
            lack(format!("{region} has no image that the launch script supports"), ids())
                .hint("choose a Debian or Ubuntu: --vm-image BLUEPRINT")
        })?,
    };
    let fits = |one: &&Bundle| {
        one.is_active
            && one.platforms.iter().any(|platform| platform == "LINUX_UNIX")
            && one.ipv4_count > 0
            && one.power >= image.min_power
            && !one.categories.iter().any(|category| category == "LfR")
    };
    let sizes: Vec<&Bundle> = bundles.iter().filter(fits).collect();
    let ids = || sizes.iter().map(|one| one.id.as_str()).collect();
    let size = match asked(&settings.vm_size, noted.map(|vm| &vm.size)) {
        Some(id) => sizes.iter().copied().find(|one| one.id == id).ok_or_else(|| {
            lack(format!("{region} has no size {id} for {} with an IPv4 address", image.id), ids())
                .hint("choose one: --vm-size BUNDLE")
        })?,
        None => sizes
            .iter()
            .copied()
            .filter(|one| one.ram >= LEAST)
            .min_by_key(|one| (one.price, one.id.clone()))
            .ok_or_else(|| lack(format!("{region} has no size with {LEAST} GB for {}", image.id), ids()))?,
    };
    Ok(Offer {
        zone,
        image: image.id.clone(),
        size: size.id.clone(),
        ram: size.ram,
        cents: u64::from(size.price),
    })
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
        .detail(format!(
            "open: {}, until the script has run there; then {}",
            vm::shown(&[vm::door(settings)]),
            vm::shown(&vm::after(settings))
        ))
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

/// Another resource of the region has the name: Lightsail's names are shared by all kinds.
fn taken(name: &str, refusal: &Refusal) -> Failure {
    let failure =
        Failure::new(Id::AwsNameTaken, format!("another resource of the region has the name {name}"));
    failure
        .detail(
            "because",
            "instances, static IPs, key pairs, disks and databases of a region share their names",
        )
        .detail("AWS says", refusal.message.clone())
        .hint("use another name, --deployment NAME, or delete the resource yourself if it is unused")
}

/// Creates the instance. Its name makes it happen at most once: after a lost answer outrigger looks before it sends the
/// request again.
async fn create(w: Writes<'_>, writer: &Writer, offer: &Offer) -> Result<()> {
    let name = w.machine.vm().unwrap_or_else(|| vm::name(&w.run.names.deployment));
    let (api, identity) = w.machine.lightsail().await?;
    // An earlier request whose answer was lost may still be carried out.
    let before = w.notes.record().vm.clone();
    let earlier = before.as_ref().filter(|vm| vm.arn.is_empty() && !vm.nonce.is_empty());
    let nonce = match &earlier {
        Some(vm) => vm.nonce.clone(),
        None => record::random_hex(16)?,
    };
    let intent = Vm {
        account: identity.account.clone(),
        region: api.region().to_owned(),
        name: name.clone(),
        nonce: nonce.clone(),
        zone: offer.zone.clone(),
        image: offer.image.clone(),
        size: offer.size.clone(),
        cents: offer.cents,
        open: true,
        static_ip: before.as_ref().map(|vm| vm.static_ip.clone()).unwrap_or_default(),
        ..Vm::default()
    };
    w.journal.write(|record| {
        record.vm = Some(intent);
        // Whatever the script that is recorded: this machine has not run it.
        record.script_due = true;
    })?;
    let tags = [
        (policy::TAG, w.notes.id()),
        (vm::NONCE, nonce),
        ("outrigger:deployment", w.run.names.deployment.clone()),
        ("managed-by", "outrigger".to_owned()),
    ];
    let new = NewInstance {
        name: name.clone(),
        zone: offer.zone.clone(),
        image: offer.image.clone(),
        size: offer.size.clone(),
        tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    };
    for last in [false, true] {
        let refusal = match writer.create(&new).await {
            Ok(operations) => return ended(w, writer, &operations).await,
            Err(refusal) => refusal,
        };
        let clash = refusal.class == Class::NameTaken;
        if !clash && !refusal.is_ambiguous() {
            // Nothing was made.
            w.journal.write(|record| record.vm.clone_from(&before))?;
            return Err(refusal.into());
        }
        // After a clash something has the name already: no need to wait for it long.
        let time = if clash { LATE / 6 } else { LATE };
        let seen = appears(w, writer, &name, time).await;
        if clash && !last && earlier.is_none() && !matches!(seen, Ok(Some(()))) {
            // No request of ours can have been carried out.
            w.journal.write(|record| record.vm.clone_from(&before))?;
        }
        match seen? {
            Some(()) => return Ok(()),
            None if clash => return Err(taken(&name, &refusal)),
            None if last => return Err(refusal.into()),
            None => {}
        }
    }
    Ok(())
}

/// There is no instance. A static IP that was allocated stays to be released.
fn unmade(noted: &mut Option<Vm>) {
    *noted = noted.take().filter(|vm| !vm.static_ip.is_empty()).map(|vm| Vm {
        arn: String::new(),
        nonce: String::new(),
        address: String::new(),
        open: false,
        ..vm
    });
}

/// Waits for the instance after an unclear end; fails if it is somebody else's.
async fn appears(w: Writes<'_>, writer: &Writer, name: &str, time: Duration) -> Result<Option<()>> {
    let seen = wait::until(
        Pace::new(&w.machine.limits, 1000, 3000).or_within(time),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}, after a lost answer"), waited),
        async || match writer.instance(name).await.map_err(Failure::from)? {
            None => Ok::<_, Failure>(Continue(())),
            Some(live) => match foreign(w.run, w.notes.record().vm.as_ref(), &live) {
                Some(failure) => Err(failure),
                None => Ok(Break(())),
            },
        },
    );
    Ok(seen.await?.ok())
}

/// Waits for the end of operations; a failed creation leaves no intent.
async fn ended(w: Writes<'_>, writer: &Writer, operations: &[Operation]) -> Result<()> {
    for begun in operations {
        let seen = wait::until(
            Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
            |_, waited| w.progress.waiting(CreateVm::INFO.name, "Lightsail", waited),
            async || {
                match writer.operation(&begun.id).await {
                    Ok(now) if now.is_terminal => Ok::<_, Failure>(Break(now)),
                    Ok(now) => Ok(Continue(now)),
                    // It is not kept for ever: the instance itself tells more.
                    Err(refusal) if refusal.class == Class::NotFound => Ok(Break(begun.clone())),
                    Err(refusal) => Err(refusal.into()),
                }
            },
        );
        let name = w.machine.vm().unwrap_or_default();
        let last =
            seen.await?.map_err(|now| vm::not_ready(&name, &format!("{} is {}", now.kind, now.status)))?;
        if last.has_failed() {
            let failure = Failure::new(
                Id::AwsOperation,
                format!("Lightsail did not carry out {} for {name}", last.kind),
            )
            .detail("AWS says", format!("{} {}", last.error_code, last.error_details).trim().to_owned());
            if writer.instance(&name).await.map_err(Failure::from)?.is_none() {
                w.journal.write(|record| unmade(&mut record.vm))?;
                return Err(failure.hint(
                    "nothing was made; run the same command again, or choose another zone: --vm-zone ZONE",
                ));
            }
            return Err(failure.hint("run the same command again"));
        }
    }
    Ok(())
}

/// Waits until the instance runs and has its address, sets its ports and protects its metadata, each as soon as it is
/// accepted, and reads both back.
async fn complete(w: Writes<'_>, writer: &Writer, opens: bool) -> Result<String> {
    let name = w.machine.vm().unwrap_or_default();
    w.machine.limits.deadline.extend(w.run.settings.wait);
    let planned: Vec<Port> = if opens { vec![vm::door(&w.run.settings)] } else { Vec::new() };
    w.machine.open_soon()?;
    let (mut asked, mut ports, mut refused) = (false, !opens, String::new());
    // Of an instance that is named and not recorded: its port is about to be opened.
    let fresh = || Vm { open: true, ..Vm::default() };
    let live = |instance: &Instance| -> Result<()> {
        let address = instance.address.map(|address| address.to_string()).unwrap_or_default();
        let is_noted = |vm: &Vm| vm.arn == instance.arn && vm.address == address;
        if w.notes.record().vm.as_ref().is_some_and(is_noted) {
            return Ok(());
        }
        let noted = w.notes.record().vm.clone();
        w.journal.write(|record| record.vm = Some(note(noted.unwrap_or_else(fresh), instance, &address)))
    };
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |what: &String, waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}: {what}"), waited),
        async || {
            let Some(instance) = writer.instance(&name).await.map_err(Failure::from)? else {
                return Ok(Continue("AWS does not show it yet".to_owned()));
            };
            if let Some(failure) = foreign(w.run, w.notes.record().vm.as_ref(), &instance) {
                return Err(failure);
            }
            live(&instance)?;
            if !ports {
                match writer.put_ports(&name, &planned).await {
                    Ok(_) => ports = true,
                    Err(refusal) if vm::is_early(&refusal) => refused = refusal.message,
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            if instance.state != "running" {
                return Ok(Continue(format!("its state is {}", instance.state)));
            }
            if !asked && !instance.tokens_required {
                match writer.require_metadata_tokens(&name).await {
                    Ok(_) => asked = true,
                    Err(refusal) if vm::is_early(&refusal) => {}
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            let lack = if instance.address.is_none() {
                "it has no address yet".to_owned()
            } else if !ports {
                format!("AWS does not accept its ports: {refused}")
            } else if opens && !vm::is_same(&instance.ports, &planned) {
                format!("its ports are {}", vm::shown(&instance.ports))
            } else if !instance.tokens_required {
                "its metadata is not protected yet".to_owned()
            } else {
                return Ok(Break(instance));
            };
            Ok(Continue(lack))
        },
    );
    let mut instance = seen.await?.map_err(|lack| vm::not_ready(&name, &lack))?;
    if w.run.settings.vm_static_ip && !instance.has_static_ip {
        instance = static_ip(w, writer, &name).await?;
        live(&instance)?;
    }
    if opens {
        w.machine.opened();
    }
    let address = instance.address.map(|address| address.to_string()).unwrap_or_default();
    Ok(format!("{name} is running in {}, {address}", instance.zone))
}

/// The record's note on an instance, also of one that `--vm-arn` names.
fn note(noted: Vm, instance: &Instance, address: &str) -> Vm {
    let place: Vec<&str> = instance.arn.split(':').collect();
    let part = |at: usize, known: &str| {
        if known.is_empty() {
            place.get(at).copied().unwrap_or_default().to_owned()
        } else {
            known.to_owned()
        }
    };
    Vm {
        account: part(4, &noted.account),
        region: part(3, &noted.region),
        name: instance.name.clone(),
        arn: instance.arn.clone(),
        address: address.to_owned(),
        zone: instance.zone.clone(),
        image: instance.image.clone(),
        size: instance.size.clone(),
        ..noted
    }
}

/// Allocates and attaches the static IP; waits until the instance has it.
async fn static_ip(w: Writes<'_>, writer: &Writer, name: &str) -> Result<Instance> {
    let noted = w.notes.record().vm.as_ref().map(|vm| vm.static_ip.clone()).unwrap_or_default();
    let ip = if noted.is_empty() { format!("{name}-ip") } else { noted.clone() };
    if noted.is_empty() || writer.static_ip(&ip).await.map_err(Failure::from)?.is_none() {
        if noted.is_empty() && writer.static_ip(&ip).await.map_err(Failure::from)?.is_some() {
            return Err(Failure::new(
                Id::AwsNameTaken,
                format!("the static IP {ip} was not allocated by this deployment"),
            )
            .hint("release it yourself if it is unused, or use another --deployment"));
        }
        w.journal.write(|record| {
            if let Some(vm) = &mut record.vm {
                vm.static_ip.clone_from(&ip);
            }
        })?;
        match writer.allocate_static_ip(&ip).await {
            Ok(operations) => ended(w, writer, &operations).await?,
            Err(refusal) if refusal.is_ambiguous() => {}
            Err(refusal) => {
                w.journal.write(|record| record.vm.iter_mut().for_each(|vm| vm.static_ip.clear()))?;
                return Err(match refusal.class {
                    Class::NameTaken => taken(&ip, &refusal),
                    _ => refusal.into(),
                });
            }
        }
    }
    let operations = writer.attach_static_ip(&ip, name).await.map_err(Failure::from)?;
    ended(w, writer, &operations).await?;
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}: its static IP"), waited),
        async || match writer.instance(name).await.map_err(Failure::from)? {
            Some(live) if live.has_static_ip && live.address.is_some() => Ok::<_, Failure>(Break(live)),
            _ => Ok(Continue(())),
        },
    );
    seen.await?.map_err(|()| vm::not_ready(name, "it does not have its static IP"))
}

/// Deletes the instance, and reads back that it is gone.
async fn delete(w: Writes<'_>, arn: &str) -> Result<String> {
    let writer = w.machine.lightsail_hand().await?;
    let name = match w.notes.record().vm.as_ref() {
        Some(vm) => vm.name.clone(),
        None => vm::name(&w.run.names.deployment),
    };
    w.machine.limits.deadline.extend(w.run.settings.wait);
    for path in vm::key_files(&w.run.settings.state_dir, &w.run.names.deployment) {
        files::remove(&path)?;
    }
    // Deletion is by name: who has it now is looked at last.
    match writer.instance(&name).await.map_err(Failure::from)? {
        Some(live) if live.arn == arn => match writer.delete(&name).await {
            Ok(operations) => ended(w, &writer, &operations).await?,
            Err(refusal) if refusal.is_ambiguous() => {}
            Err(refusal) => return Err(refusal.into()),
        },
        Some(live) => {
            let gone = Vm { arn: arn.to_owned(), ..Vm::default() };
            return Err(foreign(w.run, Some(&gone), &live)
                .unwrap_or_else(|| Failure::new(Id::ForeignVm, format!("{name} is another instance now"))));
        }
        None => {}
    }
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name} to be gone"), waited),
        async || match writer.instance(&name).await.map_err(Failure::from)? {
            Some(live) if live.arn == arn => Ok::<_, Failure>(Continue(())),
            _ => Ok(Break(())),
        },
    );
    seen.await?.map_err(|()| {
        Failure::new(Id::AwsOperation, format!("{name} is still there"))
            .with_kind(Kind::Deadline)
            .hint(("go on", Command::teardown("")))
    })?;
    w.journal.write(|record| unmade(&mut record.vm))?;
    Ok(format!("{name} deleted; read back: gone"))
}

async fn release(w: Writes<'_>) -> Result<String> {
    let ip = w.notes.record().vm.as_ref().map(|vm| vm.static_ip.clone()).unwrap_or_default();
    let writer = w.machine.lightsail_hand().await?;
    match writer.release_static_ip(&ip).await {
        Ok(_) => {}
        Err(refusal) if refusal.is_ambiguous() => {}
        Err(refusal) => return Err(refusal.into()),
    }
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).or_within(LATE),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("static IP {ip} to be gone"), waited),
        async || match writer.static_ip(&ip).await.map_err(Failure::from)? {
            Some(_) => Ok::<_, Failure>(Continue(())),
            None => Ok(Break(())),
        },
    );
    seen.await?.map_err(|()| Failure::new(Id::AwsOperation, format!("the static IP {ip} is still there")))?;
    w.journal.write(|record| {
        let noted = record.vm.take().map(|vm| Vm { static_ip: String::new(), ..vm });
        record.vm = noted.filter(|vm| !(vm.arn.is_empty() && vm.nonce.is_empty()));
    })?;
    Ok(format!("static IP {ip} released"))
}

#[cfg(test)]
#[path = "create_vm_tests.rs"]
mod tests;
