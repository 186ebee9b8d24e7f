//! Where the hub is, and who is asking.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, fs};

use ureq::{Agent, Proxy};

/// Where the hub is, where its cache is on this machine, and who is asking.
pub struct Access {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    agent: Agent,
    /// Before a request is tried a second time; twice as long before each further time.
    wait: Duration,
}

impl Access {
    /// The settings that Hugging Face's own tools read: `HF_ENDPOINT`, `HF_TOKEN`, or the file that `hf auth login` writes
    /// (`HF_TOKEN_PATH`, `HF_HOME`), `HF_HUB_CACHE`, and those of proxies.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let user = || env::home_dir().unwrap_or_default().join(".cache");
            cache.unwrap_or_else(user).join("huggingface")
        });
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let plain = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
        let token = variable("HF_TOKEN").and_then(plain).or_else(|| {
            let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            plain(fs::read_to_string(file).ok()?)
        });
        let endpoint =
            variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let mut access = Self::new(&endpoint, cache, token);
        access.agent = agent(Proxy::try_from_env());
        access
    }

    /// Without a proxy.
    #[must_use]
    pub fn new(endpoint: &str, cache: PathBuf, token: Option<String>) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            agent: agent(None),
            wait: Duration::from_secs(1),
        }
    }

    /// The same, with another wait before a request is tried a second time.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }

    /// The address of the hub, without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The folder of downloads that all tools share.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The header that says who is asking, if anybody does: for the hub itself and no other host.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        let token = self.token.as_ref();
        token.map(|token| format!("Bearer {token}"))
    }

    /// What sends requests. It hands no token on to where a redirection leads.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }
}

/// The token stays out of it.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

/// No limit on a whole transfer; each step of it must go on.
fn agent(proxy: Option<Proxy>) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .proxy(proxy)
        .user_agent(concat!("panacea/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}
