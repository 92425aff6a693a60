//! A small control plane on loopback, and a context that names it.

use super::{Ended, Fake, Home, TOKEN};

/// The registry of the context.
pub(crate) const REGISTRY: &str =
    "/subscriptions/sub/resourceGroups/grp/providers/Microsoft.ContainerRegistry/registries/contoso";

/// A control plane, and somebody who speaks to it.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) fake: Fake,
}

impl World {
    /// A control plane, and a context that names it.
    pub(crate) async fn new() -> Self {
        let (home, fake) = (Home::new(), Fake::start().await);
        let token = home.write("token", &format!("{TOKEN}\n"));
        let set = ["context", "set", "here", "--url", &fake.url, "--token-file", &token];
        let more = ["--subscription", "sub", "--group", "grp", "--registry", "contoso"];
        home.run(&[&set[..], &more].concat()).await.ok();
        Self { home, fake }
    }

    pub(crate) async fn run(&self, line: &str) -> Ended {
        let ended = self.home.run(&line.split_whitespace().collect::<Vec<_>>()).await;
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("CANARY"), "{ended:?}");
        ended
    }

    /// What a command says, without what differs from run to run.
    pub(crate) fn settled(&self, line: &str, ended: &Ended) -> String {
        let home = self.home.folder.path().display().to_string();
        let text =
            format!("$ transship {line}\n{}{}exit code {}\n\n", ended.stdout, ended.stderr, ended.code);
        text.replace(&self.fake.url, "[URL]").replace(&home, "[HOME]")
    }

    pub(crate) async fn transcript(&self, lines: &[&str]) -> String {
        let mut seen = String::new();
        for line in lines {
            seen += &self.settled(line, &self.run(line).await);
        }
        seen
    }
}
