//! GitLab is not there, or does not want this runner.

use outrigger_doubles::gitlab::{Action, Fault};

use super::super::super::vm::beds::Beds;
use super::super::super::vm::roots::Root;
use super::super::place::Place;
use super::{boot_fails, hasty, run_ends_well, run_fails};

/// GitLab refuses connections, is is out of order, is in maintenance; all goes well when it is back. And it has
/// deleted the runner: another one goes well.
pub fn down_or_refusing(beds: &Beds) {
    let place = Place::new(beds);
    let script = hasty(&place.script(&place.setup()));
    let vm = beds.vm(Root::Bookworm);
    place.connect(&vm);
    let gitlab = &place.site.gitlab;
    vm.network().refuse(gitlab.port());
    let step = "prove-gitlab";
    boot_fails(&place, &vm, &script, step, &["verify failed", &gitlab.url(), "connection refused"]);
    vm.network().forward(gitlab.port());

    let maintenance = "{\"message\": \"503 Service Unavailable: maintenance\"}";
    for (code, body, words) in [
        (502, "<html>GitLab is not responding", ["verify failed", "502 Bad Gateway"]),
        (503, maintenance, ["503 Service Unavailable", "maintenance"]),
    ] {
        // With "0" the runner itself does not wait.
        let headers = vec![("Retry-After".to_owned(), "0".to_owned())];
        let kind = if code == 503 { "application/json" } else { "text/html" };
        let answer = Action::Headers(code, headers, body.to_owned(), kind.to_owned());
        gitlab.inject(Fault::always("/runners/verify", answer));
        run_fails(&place, &vm, &script, step, &words);
        gitlab.clear_faults();
    }

    let runner = gitlab.runners()[0]["id"].as_u64().expect("setup has made one");
    gitlab.remove_runner(runner);
    run_fails(&place, &vm, &script, step, &["GitLab refuses the runner's token", "is not valid"]);
    let script = place.script(&place.setup());
    run_ends_well(&place, &vm, &script);
}
