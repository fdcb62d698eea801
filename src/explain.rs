//! `outrigger explain ID`: what happened, why outrigger stops there, and what to do. One page per id.

/// The page of a failure id; case does not matter.
#[must_use]
pub fn explain(id: &str) -> Option<&'static str> {
    PAGES.iter().find(|(page, _)| page.eq_ignore_ascii_case(id)).map(|(_, text)| *text)
}

/// Every id that has a page, in order.
pub fn ids() -> impl Iterator<Item = &'static str> {
    PAGES.iter().map(|(id, _)| *id)
}

#[rustfmt::skip]
const PAGES: &[(&str, &str)] = &[
    ("OR0101", "\
OR0101: something outrigger relies on did not work

The system gave no random numbers, the terminal failed, or a value could not be written in a form
that should always be possible. This is outrigger's own fault or the machine's, not that of your
settings. Run the same command again; if it stays, report it with the output of -v.
"),
    ("OR0102", "\
OR0102: the run was interrupted

Ctrl-C or a signal ended it. The request in flight was finished, a right held for a moment was given
back, and no further request was sent. What was done stays and is recorded: the same command goes on
from there, outrigger teardown takes it away.
"),
    ("OR0103", "\
OR0103: the API server answered in a way outrigger has no better class for

The request itself was refused: not for lack of rights, and not because the server was busy. The
failure quotes the server's own words, which usually name the field or the admission policy that
objects. Change the setting it names, or ask whoever runs that policy; then run the same command again.
"),
    ("OR0201", "\
OR0201: values are missing, and nobody is there to ask

outrigger asks only if stdin and stderr are terminals and neither --non-interactive nor CI is set.
Otherwise all missing values are listed at once, with the flag, the environment variable and the key
in the settings file for each; any one of the three will do. Nothing was changed.
"),
    ("OR0202", "\
OR0202: values cannot be used

Every value is checked before the first request, and all problems are shown at once, each with the
flag, variable or key it came from. Names follow Kubernetes' rules; URLs begin with https:// and hold
neither password nor query; characters that steer a terminal or hide text are refused everywhere,
because values end up in scripts and on screens. Nothing was changed.
"),
    ("OR0203", "\
OR0203: the settings file cannot be used

It is one flat YAML mapping. Unknown keys are refused because a misspelt key would silently do
nothing, repeated keys because only one of them could count, and bare decimals because YAML turns
19.10 into 19.1: put those in quotes. outrigger help settings lists all keys. Nothing was changed.
"),
    ("OR0204", "\
OR0204: others may change a file that outrigger would have to trust

The record says which objects are ours. Whoever can write to it could make outrigger delete what is
not. Look at what it says, then take the rights of others away (chmod 600), or remove the file: the
deployment is found again through its ServiceAccount. Nothing was changed.
"),
    ("OR0205", "\
OR0205: the record of this deployment cannot be read

It is damaged, belongs to another deployment, or was written by a newer outrigger. Use the newer
outrigger, or move the record away: the deployment is then found again through its ServiceAccount in
the cluster. Nothing was changed.
"),
    ("OR0301", "\
OR0301: the kubeconfig cannot be used

The file, the context, the cluster or the user it names is missing or cannot be read. outrigger looks
where kubectl does: --kubeconfig, KUBECONFIG (which may be a list), ~/.kube/config; a recorded context
comes before the current one. kubectl config get-contexts shows what there is. Nothing was changed.
"),
    ("OR0302", "\
OR0302: the API server cannot be reached

No connection came about: the name does not resolve, nothing listens there, or something on the way
drops it. Check VPN and proxy (HTTPS_PROXY, NO_PROXY) and that kubectl version works with the same
context. If it is the address for the runner that fails, --kubernetes-host names another.
"),
    ("OR0303", "\
OR0303: the connection to the API server is not trustworthy

A server answered, but its certificate is not signed by the CA in your kubeconfig, has ended, or is
for another name. A credential sent there could be read by somebody else, so none was. Fetch the
kubeconfig anew from whoever runs the cluster; if a proxy opens TLS on the way, go around it.
"),
    ("OR0304", "\
OR0304: the kubeconfig turns certificate checks off

insecure-skip-tls-verify makes every server in between able to take the credentials outrigger sends
and the one it issues, and leaves no CA for the runner to check against. Put the cluster's CA into
the kubeconfig (certificate-authority-data) and remove that line. Nothing was changed.
"),
    ("OR0305", "\
OR0305: this is not the cluster, or not the GitLab, of this deployment

The record says where the deployment was set up, and the one reached now is another. Going on could
leave the old objects behind, or delete namesakes. Leave out --context (the recorded one is then
used), or choose another --deployment for another cluster; if the recorded cluster no longer exists,
teardown --cluster-gone forgets what was there. Nothing was changed.
"),
    ("OR0306", "\
OR0306: the runner would not accept the API server's certificate

The runner is a Go program and checks certificates by Go's rules, which are stricter than some
others: a name must stand among the subject alternative names, the chain must end at the CA given,
and no certificate in it may have ended. outrigger applies the same rules to the endpoint the runner
will dial, so that this shows now and not in the first job. --kubernetes-host may name an endpoint
that the certificate does cover. Nothing was changed.
"),
    ("OR0307", "\
OR0307: a namespace is being deleted

Nothing can be created in a namespace that is terminating. Wait until it is gone and run the same
command again. If it stays, something in it has a finalizer that nobody serves: kubectl describe
namespace NAME names it. Nothing was changed.
"),
    ("OR0308", "\
OR0308: others can create pods in a namespace that would hold the runner's secrets

Whoever creates pods in a namespace can read every Secret and use every ServiceAccount in it. Use
namespaces of the runner's own (the default), or, if those people may have the runner's rights
anyway, say so with --accept-shared-namespace. Nothing was changed.
"),
    ("OR0309", "\
OR0309: you said no

The plan or the teardown was not confirmed, so nothing was changed. --dry-run shows a plan without
asking; setup --non-interactive applies one without asking, teardown also wants --yes.
"),
    ("OR0310", "\
OR0310: a step was asked for whose ground is not laid yet

Each step is a command of its own, but what an earlier step makes has to be there: a token is issued
for an account, an account lives in a namespace. outrigger setup goes through all steps in their order;
the failure names those that are missing. Nothing was changed.
"),
    ("OR0401", "\
OR0401: the API server does not know you

Your credential was refused: it has ended, was withdrawn, or belongs to another cluster. Log in again
with the tool that wrote it, or name another --context.
"),
    ("OR0402", "\
OR0402: you may not do something that is needed

The server refused a request; the failure quotes it and lists what is missing. Ask for those rights,
or have somebody who has them do this one step: each step is a command of its own, and create-role
--print and create-namespaces --print show exactly what would be created.
"),
    ("OR0403", "\
OR0403: you may not grant the rights the runner needs

Kubernetes lets nobody grant a right they do not hold. outrigger can bind the role edit to you in
the job namespace for the moment the Role is created, but you may not make that binding either, or
did not agree to it. Ask an administrator to apply the output of outrigger create-role --print, or
to run this step; in an existing namespace --allow-temporary-edit is your consent.
"),
    ("OR0404", "\
OR0404: the program your kubeconfig uses to log in failed

The kubeconfig names an exec plugin (such as gke-gcloud-auth-plugin or aws), which is missing or gave
no credential. What it printed is not shown, as it may hold a token. Run kubectl version with the
same context to see it; the plugin gets no terminal input and no GitLab token from outrigger.
"),
    ("OR0501", "\
OR0501: teardown left something

Every object is removed on its own, and one that cannot be removed does not keep the others. What is
left is named with the reason. Mend that and run outrigger teardown again: it goes on from there.
"),
    ("OR0502", "\
OR0502: a right held for a moment could not be given back

To grant the Role, a binding for you was created, and deleting it failed. Until it is gone you hold
more rights than before. The failure names it and the kubectl command that deletes it; the next run
of outrigger with this deployment tries again first of all.
"),
    ("OR0503", "\
OR0503: a file could not be written

The disk is full or the directory may not be written to. Files are written whole or not at all, so
no half of it is there. What was done in the cluster stays: mend it and run the same command again,
or name another place with --state-dir or --script.
"),
    ("OR0601", "\
OR0601: another run holds this deployment

Two runs at once could create one thing twice. Wait for the other to end, and run the same command
again. The lock ends with its process: no file needs to be removed by hand.
"),
    ("OR0701", "\
OR0701: an object is in the way and is not ours

It has the name outrigger would use, but neither the recorded uid nor the deployment's id on all of
its objects, so it may be anybody's. It is never adopted, changed or deleted. Remove it yourself if
it is nobody's, or choose another --deployment or --namespace. If it is ours from a run on another
machine, that machine's record knows it: run outrigger there.
"),
    ("OR0702", "\
OR0702: a file is in the way and is not ours

The path is a symbolic link, a directory or a special file, belongs to somebody else, or does not
begin with outrigger's header. A file with secrets is never written through it, and it is never
removed. Remove it yourself, or name another path with --script or --state-dir.
"),
    ("OR0710", "\
OR0710: the launch script's template does not render

The template is built into outrigger, so this is a fault of outrigger itself: report it with the line
number shown. Nothing was written.
"),
    ("OR0711", "\
OR0711: a value cannot go into the launch script

The script runs as root at first boot, so each value in it must have the shape of its kind, and the
whole must fit into what a cloud takes as user data (Lightsail: 14 kB, its own part off). What makes
it too long is nearly always a CA bundle with many certificates. The failure names the value and the
rule. Nothing was written.
"),
    ("OR0801", "\
OR0801: a wait ran out

What was awaited did not come within --timeout. What is done stays. Often it is only slow: run the
same command again, with a longer --timeout if need be.
"),
    ("OR0802", "\
OR0802: the token Secret stays empty

A controller in the cluster fills Secrets of type service-account-token, and it did not within
30 seconds: it is off or overloaded, or the cluster does not offer such tokens. Try again, or ask for
a token that expires with --token-lifetime; outrigger never changes the kind by itself.
"),
    ("OR0803", "\
OR0803: the server is throttling

It answered 429 until the time ran out, although outrigger waited as long as it asked. Somebody else
may be keeping it busy. Run the same command again later, or with a longer --timeout.
"),
    ("OR0804", "\
OR0804: the server has a fault of its own

It answered with a 5xx status until the time ran out; its words are quoted. Requests that may be
sent twice were repeated, others were not. Run the same command again when it is well: that finds
out what the last request did.
"),
    ("OR0901", "\
OR0901: the token is not the one that was asked for

A token says whom it is for, who issued it and when it ends. Those claims do not fit the account it
was issued for, so it is not passed on. Look for something that rewrites tokens or Secrets in the
cluster; then outrigger issue-token --reissue cluster.
"),
    ("OR0902", "\
OR0902: the API server takes the token for somebody else

Asked with the token alone who it belongs to, the server named another account or none. A proxy that
puts its own identity in place, or another cluster behind the same address, does this. The runner
would meet the same; --kubernetes-host may name an endpoint without it in between.
"),
    ("OR0903", "\
OR0903: the cluster shortened the token's lifetime

The server gave a token that ends earlier than asked for, and the runner would stop working then.
Ask for less with --token-lifetime, leave it out for a token that does not end, or take this one
with --accept-lifetime and issue a new one in time.
"),
    ("OR0904", "\
OR0904: the token may do more than the Role says

Another binding gives the account further rights, or it is in a group that has them, and so would be
anybody who can change a pipeline. The failure lists them. kubectl get rolebindings,clusterrolebindings
-A -o wide shows where they come from; remove the binding, then run the same command again.
"),
    ("OR0905", "\
OR0905: the token may do something it must never be able to

Reading Secrets, creating pods in its own namespace, changing roles or acting in the whole cluster
would let any pipeline take the cluster over. The failure names the right. Remove the binding that
grants it; there is no flag to go on regardless.
"),
    ("OR0906", "\
OR0906: the token works, but may not do what the runner must

Jobs would fail at their first pod. The Role was narrowed, its binding is gone, or a webhook denies
it. What somebody made stricter is kept unless you say otherwise: outrigger create-role
--force-conflicts puts the Role back. Then run the same command again.
"),
    ("OR1001", "\
OR1001: there is something to change

This is no error: status, and setup --dry-run --exit-code, exit with 10 when what is there differs
from what should be. The lines say how; outrigger setup brings it about.
"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::{PAGES, explain, ids};

    /// Every `OR` followed by exactly four digits in the sources below a directory.
    fn used(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("sources").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() {
                used(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).expect("UTF-8");
                for (at, _) in text.match_indices("OR") {
                    let digits: String = text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
                    if digits.len() == 4 {
                        found.insert(format!("OR{digits}"));
                    }
                }
            }
        }
    }

    #[test]
    fn every_id_in_use_has_a_page() {
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let without: Vec<_> = found.iter().filter(|id| explain(id).is_none()).collect();
        assert!(without.is_empty(), "no page for {without:?}");
    }

    #[test]
    fn pages_are_in_order_and_of_one_shape() {
        let ids: Vec<_> = ids().collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
        for (id, text) in PAGES {
            assert!(text.starts_with(&format!("{id}: ")) && text.ends_with(".\n"), "{id}");
            assert!(text.lines().all(|line| line.chars().count() <= 105), "{id} has a long line");
        }
        assert_eq!(explain("or0101"), explain("OR0101"));
        assert!(explain("OR").is_none() && explain("").is_none());
    }
}
