//! An instance is made once, is changed only if it is this deployment's, and has no more open ports than planned.

use std::collections::BTreeMap;

use super::offer::offer;
use super::*;
use crate::machine::lightsail::{Blueprint, Bundle, Port, Region, Zone};
use crate::steps::contract::Script;
use crate::steps::fixture::{self, World};

const ARN: &str = "arn:aws:lightsail:eu-central-1:123456789012:Instance/aaaa";

fn offered() -> Offer {
    Offer {
        zone: "eu-central-1a".to_owned(),
        image: "ubuntu_24_04".to_owned(),
        size: "micro_3_0".to_owned(),
        ram: 1.0,
        cents: 700,
    }
}

/// No instance yet; the script will be written and run.
fn base(world: &mut World) -> Seen {
    world.run.parts = vec![Part::Script, Part::Vm, Part::Host];
    world.forecast.script = Some(Script { is_written: true, ..Script::default() });
    Seen::Looked(Box::new(Look {
        account: "123456789012".to_owned(),
        region: "eu-central-1".to_owned(),
        live: None,
        offer: Some(offered()),
        private: None,
        entered: false,
        static_ip: false,
    }))
}

fn at(seen: &mut Seen) -> &mut Look {
    match seen {
        Seen::Looked(look) => look,
        _ => unreachable!("the base has looked"),
    }
}

fn instance() -> Instance {
    Instance {
        name: "demo-vm".to_owned(),
        arn: ARN.to_owned(),
        created: "2026-01-01T00:00:00Z".parse().expect("a time"),
        zone: "eu-central-1a".to_owned(),
        image: "ubuntu_24_04".to_owned(),
        size: "micro_3_0".to_owned(),
        state: "running".to_owned(),
        address: Some([203, 0, 113, 7].into()),
        user: "ubuntu".to_owned(),
        tags: BTreeMap::from([(vm::NONCE.to_owned(), "n1".to_owned())]),
        ports: Vec::new(),
        tokens_required: true,
        has_static_ip: false,
    }
}

fn noted() -> Vm {
    Vm {
        account: "123456789012".to_owned(),
        region: "eu-central-1".to_owned(),
        name: "demo-vm".to_owned(),
        nonce: "n1".to_owned(),
        arn: ARN.to_owned(),
        address: "203.0.113.7".to_owned(),
        zone: "eu-central-1a".to_owned(),
        image: "ubuntu_24_04".to_owned(),
        size: "micro_3_0".to_owned(),
        cents: 700,
        ..Vm::default()
    }
}

/// The instance runs, and has run its script.
fn runs(world: &mut World, seen: &mut Seen) {
    at(seen).live = Some(instance());
    world.record.vm = Some(noted());
    world.forecast.script = Some(Script::default());
}

fn live(seen: &mut Seen) -> &mut Instance {
    at(seen).live.as_mut().expect("an instance")
}

fn vm(world: &mut World) -> &mut Vm {
    world.record.vm.as_mut().expect("a recorded instance")
}

fn open(number: u16, cidr: &str) -> Port {
    Port { cidrs: [cidr.to_owned()].into(), ..Port::tcp(number) }
}

#[test]
fn decisions() {
    let shown = |act: &Act| match act {
        Act::Create(offer) => format!("Create {} {}", offer.image, offer.size),
        act => format!("{act:?}"),
    };
    fixture::table(
        &CreateVm,
        base,
        shown,
        &[
            (
                "makes it, and says what it costs",
                &["--create-vm"],
                |_, _| {},
                &[
                    "Create Create ubuntu_24_04 micro_3_0: VM demo-vm: ubuntu_24_04, micro_3_0 (1 GB), 7 USD a month, in eu-central-1a | in AWS account 123456789012 | open: 22 from anywhere, until | then no open port | LightsailDefaultKeyPair",
                ],
            ),
            (
                "says from where port 22 is reached",
                &["--create-vm", "--ssh-from", "203.0.113.7/32", "--ssh-after", "console"],
                |_, _| {},
                &[
                    "Create Create ubuntu_24_04 micro_3_0: open: 22 from 203.0.113.7/32, until | then 22 from Lightsail's console",
                ],
            ),
            (
                "says that the recorded one is gone",
                &["--create-vm"],
                |world, _| world.record.vm = Some(noted()),
                &["Create Create ubuntu_24_04 micro_3_0: the recorded VM is gone"],
            ),
            (
                "refuses an API server that a VM cannot reach",
                &["--create-vm"],
                |_, seen| at(seen).private = Some(("a private address", "10.0.0.1".to_owned())),
                &["Refuse PrivateEndpoint: 10.0.0.1 | --kubernetes-host URL | --accept unreachable-endpoint"],
            ),
            (
                "makes it if that is accepted",
                &["--create-vm", "--accept", "unreachable-endpoint"],
                |_, seen| at(seen).private = Some(("a private address", "10.0.0.1".to_owned())),
                &["Create Create ubuntu_24_04 micro_3_0"],
            ),
            (
                "keeps one that runs",
                &["--create-vm"],
                runs,
                &["Keep: =VM demo-vm: running, 203.0.113.7, no open port, 7 USD a month"],
            ),
            (
                "opens the port for a new script",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.forecast.script = Some(Script { is_written: true, ..Script::default() });
                },
                &["Update Open: =VM demo-vm: 22 from anywhere, until the script has run there"],
            ),
            (
                "opens the port for a script that was not seen to end well",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.record.script_due = true;
                },
                &["Update Open"],
            ),
            (
                "leaves the port closed if no script is to run in this run",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.record.script_due = true;
                    world.run.parts = vec![Part::Vm];
                },
                &["Keep"],
            ),
            (
                "opens the port for a rotation",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.run.upgrade = true;
                },
                &["Update Open"],
            ),
            (
                "closes a port that somebody opened",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).ports = vec![open(80, "0.0.0.0/0")];
                },
                &["Update Close: =VM demo-vm: 80 from anywhere -> no open port"],
            ),
            (
                "closes a port that a killed run may have left open",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    vm(world).open = true;
                },
                &["Update Close: its ports, which an interrupted run may have opened"],
            ),
            (
                "shows that less is open than planned",
                &["--create-vm", "--ssh-after", "203.0.113.0/24"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).ports = vec![open(22, "203.0.113.7/32")];
                },
                &["Keep: 22 from 203.0.113.7/32", "Warning!: less is open | 203.0.113.0/24"],
            ),
            (
                "protects its metadata",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).tokens_required = false;
                },
                &["Update Close: protected metadata"],
            ),
            (
                "notes another address",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).address = Some([203, 0, 113, 8].into());
                },
                &["Update Close: 203.0.113.8"],
            ),
            (
                "goes on with one whose creation was interrupted",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    vm(world).arn.clear();
                    live(seen).state = "pending".to_owned();
                    live(seen).address = None;
                },
                &["Update Open"],
            ),
            (
                "says that somebody stopped it",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).state = "stopped".to_owned();
                },
                &["Unhealthy!: VM demo-vm is stopped: its runner takes no jobs"],
            ),
            (
                "does not start it for a script",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.record.script_due = true;
                    live(seen).state = "stopped".to_owned();
                },
                &["Refuse VmStopped: demo-vm is stopped"],
            ),
            (
                "does not make another one in place of the one that is named",
                &["--create-vm", "--vm-arn", ARN],
                |_, _| {},
                &["Refuse AwsNotFound: there is no instance arn:aws:lightsail"],
            ),
            (
                "announces a static IP",
                &["--create-vm", "--vm-static-ip"],
                runs,
                &["Update Close: a static IP in place of 203.0.113.7"],
            ),
            (
                "does not resize",
                &["--create-vm", "--vm-size", "small_3_0"],
                runs,
                &["Keep", "Warning!: --vm-size small_3_0: demo-vm has micro_3_0, and a VM is not changed"],
            ),
            (
                "refuses one of that name that it did not make",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    world.record.vm = None;
                },
                &["Refuse ForeignVm: no record of having made it | --vm-arn ARN | outrigger:nonce=n1"],
            ),
            (
                "refuses one that was made since in the place of ours, whatever its tags",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    live(seen).arn = ARN.replace("aaaa", "bbbb");
                },
                &["Refuse ForeignVm: the recorded instance was deleted"],
            ),
            (
                "refuses one without the mark of the interrupted creation",
                &["--create-vm"],
                |world, seen| {
                    runs(world, seen);
                    vm(world).arn.clear();
                    live(seen).tags.insert(vm::NONCE.to_owned(), "n2".to_owned());
                },
                &["Refuse ForeignVm: it does not have the mark"],
            ),
            (
                "takes the one that is named, without a record",
                &["--create-vm", "--vm-arn", ARN],
                |world, seen| {
                    runs(world, seen);
                    world.record.vm = None;
                },
                &["Keep: =VM demo-vm: running, 203.0.113.7, no open port"],
            ),
        ],
    );
}

#[test]
fn removals() {
    let shown = |act: &Undo| match act {
        Undo::Close => "Close".to_owned(),
        Undo::Delete { arn } => format!("Delete {arn}"),
        Undo::Release => "Release".to_owned(),
    };
    fixture::undo_table(
        &CreateVm,
        base,
        shown,
        &[
            ("there is none", &[], |_, seen| *seen = Seen::None, &[]),
            (
                "deletes ours",
                &[],
                runs,
                &[
                    "Remove Delete arn:aws:lightsail:eu-central-1:123456789012:Instance/aaaa: VM demo-vm in eu-central-1, 7 USD a month | snapshots",
                ],
            ),
            (
                "ours is gone",
                &[],
                |world, seen| {
                    runs(world, seen);
                    at(seen).live = None;
                },
                &["Keep: already gone"],
            ),
            (
                "leaves one that was made since in its place",
                &[],
                |world, seen| {
                    runs(world, seen);
                    live(seen).arn = ARN.replace("aaaa", "bbbb");
                },
                &["Refuse ForeignVm"],
            ),
            (
                "releases its static IP too",
                &[],
                |world, seen| {
                    runs(world, seen);
                    vm(world).static_ip = "demo-vm-ip".to_owned();
                    at(seen).static_ip = true;
                },
                &[
                    "Remove Delete arn:aws:lightsail:eu-central-1:123456789012:Instance/aaaa",
                    "Remove Release: static IP demo-vm-ip",
                ],
            ),
            (
                "AWS is not asked",
                &[],
                |world, seen| {
                    runs(world, seen);
                    *seen = Seen::Gone;
                },
                &["Keep: --vm-gone"],
            ),
        ],
    );
}

/// What a region offers: two zones, a system and an application, and sizes for each.
fn catalog() -> (Vec<Region>, Vec<Bundle>, Vec<Blueprint>) {
    let zone = |name: &str, state: &str| Zone { name: name.to_owned(), state: state.to_owned() };
    let zones = vec![zone("eu-central-1b", "available"), zone("eu-central-1a", "unavailable")];
    let regions = vec![Region { name: "eu-central-1".to_owned(), zones }];
    let bundle = |id: &str, price, ram| Bundle {
        id: id.to_owned(),
        price,
        ram,
        is_active: true,
        platforms: vec!["LINUX_UNIX".to_owned()],
        ipv4_count: 1,
        power: 500,
        categories: Vec::new(),
    };
    let bundles = vec![
        bundle("nano_3_0", 500, 0.5),
        Bundle { ipv4_count: 0, ..bundle("micro_ipv6_3_0", 500, 1.0) },
        Bundle { is_active: false, ..bundle("micro_2_0", 350, 1.0) },
        Bundle { platforms: vec!["WINDOWS".to_owned()], ..bundle("micro_win_3_0", 600, 1.0) },
        Bundle { categories: vec!["LfR".to_owned()], ..bundle("research_1_0", 600, 4.0) },
        Bundle { power: 100, ..bundle("weak_3_0", 600, 1.0) },
        bundle("small_3_0", 1200, 2.0),
        bundle("micro_3_0", 700, 1.0),
    ];
    let blueprint = |id: &str, kind: &str| Blueprint {
        id: id.to_owned(),
        platform: "LINUX_UNIX".to_owned(),
        kind: kind.to_owned(),
        group: id.to_owned(),
        is_active: true,
        min_power: 300,
        version: String::new(),
    };
    let blueprints = vec![
        blueprint("wordpress", "app"),
        blueprint("debian_12", "os"),
        Blueprint { is_active: false, ..blueprint("ubuntu_24_04", "os") },
        Blueprint { platform: "WINDOWS".to_owned(), ..blueprint("windows_2022", "os") },
    ];
    (regions, bundles, blueprints)
}

#[test]
fn offers() {
    let (regions, bundles, blueprints) = catalog();
    let choose = |flags: &[&str], noted: Option<&Vm>, region: &str| {
        let settings = World::new(&[&["--create-vm"], flags].concat()).run.settings;
        offer(&settings, noted, region, &regions, &bundles, &blueprints)
            .map_err(|failure| (failure.id, failure.message))
    };
    let found = choose(&[], None, "eu-central-1").expect("an offer");
    let expected = Offer { zone: "eu-central-1b".to_owned(), image: "debian_12".to_owned(), ..offered() };
    assert_eq!(found, expected);
    let small = choose(&["--vm-size", "small_3_0"], None, "eu-central-1").expect("an offer");
    assert_eq!((small.size.as_str(), small.cents), ("small_3_0", 1200));
    // What was chosen at first stays.
    let first = Vm {
        size: "small_3_0".to_owned(),
        zone: "eu-central-1b".to_owned(),
        image: "debian_12".to_owned(),
        ..noted()
    };
    assert_eq!(choose(&[], Some(&first), "eu-central-1").expect("an offer").size, "small_3_0");
    for (flags, region, words) in [
        (&["--vm-zone", "eu-central-1a"][..], "eu-central-1", "no available zone eu-central-1a"),
        (&[], "us-east-1", "no available zone in us-east-1"),
        (&["--vm-image", "ubuntu_24_04"], "eu-central-1", "no Linux image ubuntu_24_04"),
        (&["--vm-image", "wordpress"], "eu-central-1", "no Linux image wordpress"),
        (&["--vm-size", "micro_ipv6_3_0"], "eu-central-1", "no size micro_ipv6_3_0"),
        (&["--vm-size", "weak_3_0"], "eu-central-1", "no size weak_3_0"),
    ] {
        let (id, message) = choose(flags, None, region).expect_err(words);
        assert!(id == Id::NotOffered && message.contains(words), "{message}");
    }
}
