//! Which call sites a context has come by so often that they are worth a patch.

use crate::CallSite;

/// A site is worth it at this call: to copy and map its page takes as long as ten calls by signals. Where that came to
/// nothing, or did not last, it is at twice as many again.
const HOT_AT: u32 = 64;
/// Sites that are counted at a time; where two share a place, the newer one begins.
const PLACES: usize = 64;

/// The counts.
#[derive(Debug)]
pub(super) struct HotSites {
    counts: Box<[(CallSite, u32); PLACES]>,
    hot: Option<CallSite>,
}

impl Default for HotSites {
    fn default() -> HotSites {
        let none = CallSite { behind: 0, nr: 0 };
        HotSites { counts: Box::new([(none, 0); PLACES]), hot: None }
    }
}

impl HotSites {
    /// A call came by its signal.
    pub(super) fn count(&mut self, site: CallSite) {
        let place = (site.behind ^ site.behind >> 6) as usize % PLACES;
        let Some((counted, count)) = self.counts.get_mut(place) else { return };
        if *counted != site {
            (*counted, *count) = (site, 0);
        }
        *count = count.saturating_add(1);
        if *count >= HOT_AT && count.is_power_of_two() {
            self.hot = Some(site);
        }
    }

    /// The site that has just become hot.
    pub(super) fn take(&mut self) -> Option<CallSite> {
        self.hot.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_hot_ever_more_rarely() {
        let mut sites = HotSites::default();
        let (site, other) = (CallSite { behind: 64, nr: 1 }, CallSite { behind: 64, nr: 2 });
        for round in 1..1000 {
            sites.count(site);
            let hot = [64, 128, 256, 512].contains(&round).then_some(site);
            assert_eq!(sites.take(), hot, "{round}");
        }
        for _ in 0..HOT_AT {
            sites.count(site);
            sites.count(other);
        }
        assert_eq!(sites.take(), None, "another number is another site");
    }
}
