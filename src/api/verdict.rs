//! Verdicts on upgrades as JSON, the same from the command line and over HTTP.

use serde_json::{Value as Json, json};

use crate::engine::Verdict;
use crate::machine::differences::Unpaired;
use crate::render::{Shown, short};
use crate::syntax::Place;

/// A verdict on an instance, with what came of it.
pub struct Judged<'a> {
    pub id: &'a str,
    pub verdict: &'a Verdict,
    /// The entry to which the instance goes back.
    pub from: Option<u64>,
    /// The requests that the instance forgets, if it goes back.
    pub forgotten: &'a [(u64, String)],
    pub is_adopted: bool,
}

/// A side of a divergence, as text.
pub struct Side {
    pub text: String,
    /// The place and the line of source, if there is one.
    pub place: Option<(String, String)>,
}

impl Side {
    /// Returns the recorded side, with the sources of the program that made it.
    pub fn recorded(sources: Option<&Shown<'_>>, side: &Option<(String, Place)>) -> Side {
        Side::of(sources, side, "nothing more")
    }

    /// Returns the side of the new program.
    pub fn found(sources: Option<&Shown<'_>>, side: &Option<(String, Place)>) -> Side {
        Side::of(sources, side, "it ends")
    }

    fn of(sources: Option<&Shown<'_>>, side: &Option<(String, Place)>, none: &str) -> Side {
        let Some((text, place)) = side else { return Side { text: none.to_string(), place: None } };
        let has_place = *place != Place::default();
        let place = sources.filter(|_| has_place).map(|shown| (shown.locate(*place), shown.line(*place)));
        Side { text: short(text, 120), place }
    }

    fn json(self) -> Json {
        let (place, line) = self.place.unzip();
        json!({"what": self.text, "place": place, "line": line})
    }
}

impl Judged<'_> {
    /// Returns the verdict as JSON. `sides` returns the recorded side of a divergence and that of
    /// the new program.
    pub fn json(&self, sides: impl FnOnce() -> (Side, Side)) -> Json {
        let mut out = json!({"id": self.id, "adopted": self.is_adopted});
        match self.verdict {
            Verdict::Fits { .. } if let Some(entry) = self.from => {
                out["verdict"] = json!("goes back");
                out["entry"] = json!(entry);
                let forgotten = self.forgotten.iter();
                out["forgotten"] = forgotten.map(|(seq, what)| json!({"seq": seq, "what": what})).collect();
            }
            Verdict::Fits { asks, unpaired } => {
                out["verdict"] = json!("fits");
                out["asks"] = texts(asks);
                out["unpaired"] = unpaired.iter().map(only).collect();
            }
            Verdict::StateDiffers { asks, differences } => {
                out["verdict"] = json!("state differs");
                let variables = differences.differ.iter().map(|of| {
                    json!({
                        "name": of.name, "function": of.function, "part": of.part,
                        "before": of.before, "now": of.now,
                    })
                });
                out["variables"] = variables.collect();
                out["asks"] = texts(asks);
                out["unpaired"] = differences.unpaired.iter().map(only).collect();
            }
            Verdict::Diverges(of) => {
                let (recorded, found) = sides();
                out["verdict"] = json!("diverges");
                (out["entry"], out["entries"]) = (json!(of.entry), json!(of.of));
                (out["recorded"], out["found"]) = (recorded.json(), found.json());
            }
            Verdict::Unfit(why) => {
                out["verdict"] = json!("unfit");
                out["why"] = json!(why);
            }
        }
        out
    }
}

fn texts(asks: &[(String, Place)]) -> Json {
    asks.iter().map(|(what, _)| json!(what)).collect()
}

/// Returns a variable that only one of two texts has.
fn only(of: &Unpaired) -> Json {
    let side = if of.is_new { "now" } else { "before" };
    json!({"name": of.name, "function": of.function, side: of.value})
}
