//! What a membership service has to do.

use std::time::Duration;

use tribes_core::member::Departure;
use tribes_core::{MemberEvent, Services};

use super::super::interceptor::consistent;
use super::super::run::{Case, Verdict};
use super::Subject;
use super::bench::{Bench, Station, run};

#[doc(hidden)]
#[macro_export]
macro_rules! __membership_cases {
    ([$($then:tt)*] $args:tt) => {
        $($then)* { $args
            lifecycle "it starts and stops, also twice, in time";
            meeting "members find each other, each once, and none finds itself";
            leaving "a member that stops is removed everywhere, as one that left on purpose";
            returning "a member that starts again is there again, as another";
            updates "a changed payload is told to the others";
            halves "who only listens is not found, and who only announces finds nobody";
            cancellation "a start or stop that is dropped at any of its awaits spoils nothing";
            quiet "nothing is told of a group in which nothing happens";
        }
    };
}

macro_rules! table {
    (() $($name:ident $demand:literal;)*) => {
        pub(super) const ALL: &[Case<Subject>] =
            &[$(Case { name: stringify!($name), demand: $demand, run: |subject, seed| run(subject, seed, $name) }),*];
    };
}

__membership_cases! { [table!] () }

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(3);

async fn lifecycle(bench: &Bench) -> Verdict {
    let Some(site) = bench.sites(1)?.pop() else { return Ok(()) };
    let station = bench.station(site, |builder| builder)?;
    bench.stop(&station, STOP).await?;
    for _ in 0..3 {
        for _ in 0..=bench.below(2) {
            bench.start(&station).await?;
        }
        let half = bench.pick(&[Services::MEMBERSHIP_TX, Services::MEMBERSHIP_RX, Services::MEMBERSHIP]);
        bench.within("`stop_services`", station.channel.stop_services(half)).await?;
        let started = bench.within("`start_services`", station.channel.start_services(half)).await?;
        started.map_err(|error| format!("{half:?} does not start again: {error}"))?;
        for _ in 0..=bench.below(2) {
            bench.stop(&station, STOP).await?;
        }
    }
    Ok(())
}

/// What each heard makes sense, and is not about itself.
fn sensible(stations: &[Station]) -> Verdict {
    for station in stations {
        let (events, local) = (station.heard.events(), station.channel.local());
        if let Some(event) = events.iter().find(|event| event.member().id() == local.id()) {
            return Err(format!("a member hears of itself: {event:?}"));
        }
        consistent(&events)?;
    }
    Ok(())
}

async fn meeting(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    for station in &group {
        let added = station.heard.events().iter().filter(|event| matches!(event, MemberEvent::Added(_))).count();
        let view = station.channel.view();
        if added != 2 || view.len() != 2 || view.contains(&station.channel.local()) {
            return Err(format!(
                "in a group of three a member heard of {added} newcomers, and sees {:?}",
                view.members()
            ));
        }
    }
    sensible(&group)
}

async fn leaving(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let [left, others @ ..] = group.as_slice() else { return Ok(()) };
    let member = left.channel.local();
    bench.stop(left, STOP).await?;
    for other in others {
        let gone = || !other.channel.view().contains(&member);
        bench.until(gone, || format!("{member} left, but is still there")).await?;
        let why = other.heard.events().into_iter().find_map(|event| match event {
            MemberEvent::Removed(removed, why) if removed.id() == member.id() => Some(why),
            _ => None,
        });
        if why != Some(Departure::Shutdown) && !bench.subject.profile.anonymous {
            return Err(format!("{member} left on purpose, but is told to have gone as {why:?}"));
        }
        if other.channel.view().len() != 1 {
            return Err(format!("one of three left, and a member sees {:?}", other.channel.view().members()));
        }
    }
    sensible(&group)
}

async fn returning(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    for _ in 0..2 {
        let before = one.channel.local();
        bench.stop(one, STOP).await?;
        bench.until(|| other.channel.view().is_empty(), || format!("{before} left, but is still there")).await?;
        bench.start(one).await?;
        bench.all_meet(&[one, other]).await?;
        if one.channel.local().id() == before.id() {
            return Err("a channel that started again has its old id".to_owned());
        }
    }
    sensible(&group)
}

async fn updates(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    for payload in ["one", "another"] {
        one.channel.set_payload(payload);
        let id = one.channel.local().id();
        let told = || {
            let view = other.channel.view();
            view.members().iter().any(|member| member.id() == id && member.payload() == payload)
        };
        bench.until(told, || format!("the payload {payload:?} is not told to the others")).await?;
    }
    let updated = other.heard.events().iter().filter(|event| matches!(event, MemberEvent::Updated(_))).count();
    if updated < 2 {
        return Err(format!("two changes were told as {updated} updates"));
    }
    sensible(&group)
}

async fn halves(bench: &Bench) -> Verdict {
    if bench.subject.profile.whole {
        return Ok(());
    }
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    for half in [Services::MEMBERSHIP_RX, Services::MEMBERSHIP_TX] {
        bench.stop(one, STOP).await?;
        bench.until(|| other.channel.view().is_empty(), || "one left, but is still there".to_owned()).await?;
        let services = Services::RECEIVER | Services::SENDER | half;
        let started = bench.within("`start_services`", one.channel.start_services(services)).await?;
        started.map_err(|error| error.to_string())?;
        let (sees, seen) = (|| one.channel.view().len(), || other.channel.view().len());
        let listens = half == Services::MEMBERSHIP_RX;
        let as_it_should = || if listens { sees() == 1 } else { seen() == 1 };
        let otherwise = || format!("with {half:?} alone it sees {} and is seen by {}", sees(), seen());
        bench.until(as_it_should, otherwise).await?;
        let other_half = || if listens { seen() == 0 } else { sees() == 0 };
        bench.stays(other_half, || format!("with {half:?} alone it sees {} and is seen by {}", sees(), seen())).await?;
    }
    Ok(())
}

async fn cancellation(bench: &Bench) -> Verdict {
    let group = bench.group(2).await?;
    let [one, other] = group.as_slice() else { return Ok(()) };
    for polls in 0..4 {
        let _ = bench.polled(polls, one.channel.stop()).await;
        bench.stop(one, STOP).await?;
        let _ = bench.polled(polls, one.channel.start()).await;
        bench.stop(one, STOP).await?;
        bench.start(one).await?;
        bench
            .all_meet(&[one, other])
            .await
            .map_err(|error| format!("after calls dropped after {polls} polls: {error}"))?;
    }
    sensible(&group)
}

async fn quiet(bench: &Bench) -> Verdict {
    let group = bench.group(3).await?;
    let heard = || group.iter().map(|station| station.heard.events().len()).collect::<Vec<_>>();
    let before = heard();
    bench.stays(|| heard() == before, || format!("{before:?} events became {:?} in a quiet group", heard())).await?;
    sensible(&group)
}
