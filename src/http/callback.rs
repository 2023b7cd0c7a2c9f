//! The URLs that `callback_url` gives to programs.

use crate::host::Callbacks;

use super::access::Keys;
use super::instances::escaped;

/// Returns the means to make URLs below a server's own one, such as `https://jobs.example`. The code
/// in each is for one event of one life of an instance's id, and stays valid as long as the tokens.
pub fn callbacks(server: &str, keys: Keys) -> Callbacks {
    let server = server.trim_end_matches('/').to_string();
    Callbacks::new(move |id, life, event| {
        let code = keys.event_code(id, life, event);
        format!("{server}/api/v1/instances/{}/events/{}?code={code}", escaped(id), escaped(event))
    })
}
