//! The simulated parts pass the suites of the IO layer, and parts that do something wrong do not.

use tribes_testkit::suite::{IoProfile, Site};

tribes_testkit::sender_suite!(
    |site: &Site| site.node().sender(),
    |site: &Site| site.node().receiver(),
    IoProfile::simulated()
);
tribes_testkit::receiver_suite!(
    |site: &Site| site.node().receiver(),
    |site: &Site| site.node().sender(),
    IoProfile::simulated()
);
tribes_testkit::membership_suite!(
    |site: &Site| site.node().membership(),
    |site: &Site| site.node().sender(),
    |site: &Site| site.node().receiver(),
    IoProfile::simulated()
);
