//! The parts of the demo, in their order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tribes::{BoxError, Member, SendOptions, Time, To, View};

use super::cast::{GUARANTEES, Group, Note, Outsider, What};
use super::screen::Style;
use super::stage::{NAMES, Sight, Stage};
use super::statistics;
use crate::units::Short;

/// Questions under each guarantee.
const QUESTIONS: u32 = 200;

/// Before the kill nobody says anything for this long: what is shown is the death of an idle member.
const SILENCE: Duration = Duration::from_millis(500);

/// The member that is killed.
const VICTIM: &str = "dora";

/// Plays everything.
pub(super) async fn all(stage: &mut Stage<'_>) -> Result<(), BoxError> {
    let title = stage.screen.styled(Style::Bold, "tribes demo");
    let (first, rest) = (NAMES.first().copied().unwrap_or_default(), NAMES.get(1..).unwrap_or_default().join(" and "));
    stage.screen.line(format_args!(
        "{title}  {first}, {rest} in this process, {VICTIM} in one of its own; multicast {} on 127.0.0.1",
        stage.group.address()
    ));
    join(stage).await?;
    greet(stage).await?;
    ask(stage).await?;
    let port = die(stage).await?;
    rejoin(stage, port).await?;
    statistics::show(stage)
}

/// Each member starts; those who are there see it, and it sees them.
async fn join(stage: &mut Stage<'_>) -> Result<(), BoxError> {
    stage.screen.heading("Joins", "they find each other by multicast");
    let mut present: Vec<&'static str> = Vec::new();
    for at in 0..NAMES.len() {
        let Some(actor) = stage.actors.get(at) else { break };
        let (name, since) = (actor.name, stage.env.now());
        stage.within(&format!("the start of {name}"), actor.channel.start()).await?;
        let took = Short(stage.env.now() - since);
        stage.tell(name, format_args!("listens at {}, started in {took}", actor.channel.local()));
        let expected: Vec<_> = present.iter().flat_map(|other| [(*other, name), (name, *other)]).collect();
        stage.all_notice(expected, Sight::Join, since).await?;
        present.push(name);
    }
    Ok(())
}

/// The first member says hello to all, once under each guarantee.
async fn greet(stage: &mut Stage<'_>) -> Result<(), BoxError> {
    stage.screen.heading("Typed messages", "from one member to the group, under each guarantee");
    for (options, name, promise) in GUARANTEES {
        let speaker = stage.first()?;
        let hello = Note::Hello { text: "hello".to_owned() };
        let since = stage.env.now();
        stage
            .within(&format!("a message under {name}"), speaker.channel.send_message(To::All, &hello, options))
            .await?;
        let took = Short(stage.env.now() - since);
        let text = format!("says hello under {name}");
        stage.tell_at(since, speaker.name, format_args!("{text:<44}{took:>8} until {promise}"));
        let listeners: Vec<_> = NAMES.into_iter().skip(1).collect();
        stage.all_hear(&listeners).await?;
    }
    Ok(())
}

/// The first member asks the others many questions and waits for both answers before the next.
async fn ask(stage: &mut Stage<'_>) -> Result<(), BoxError> {
    let about = format!("{QUESTIONS} typed questions to two members, each answered under the same guarantee");
    stage.screen.heading("Round trips", &about);
    let mut rows =
        vec![["guarantee", "call, median", "round trip, median", "99 %", "worst"].map(str::to_owned).to_vec()];
    for (options, name, _) in GUARANTEES {
        let (mut calls, mut trips) = (Vec::new(), Vec::new());
        for number in 0..QUESTIONS {
            let question = Note::Question { number };
            let asker = stage.first()?;
            let (since, who) = (stage.env.now(), asker.name);
            stage
                .within(&format!("a question under {name}"), asker.channel.send_message(To::All, &question, options))
                .await?;
            calls.push(stage.env.now() - since);
            trips.push(answered(stage, who, number, name).await? - since);
        }
        let shares = [share(&mut trips, 50), share(&mut trips, 99), share(&mut trips, 100)];
        let cells = [name.to_owned(), Short(share(&mut calls, 50)).to_string()];
        rows.push(cells.into_iter().chain(shares.map(|time| Short(time).to_string())).collect());
    }
    stage.screen.table(&rows);
    Ok(())
}

/// Waits until everyone but `who` has answered question `number`; the time of the last answer.
async fn answered(stage: &mut Stage<'_>, who: &str, number: u32, under: &str) -> Result<Time, BoxError> {
    let deadline = stage.deadline();
    let mut answers: BTreeMap<Arc<Member>, Time> = BTreeMap::new();
    while answers.len() < NAMES.len() - 1 {
        let happening = stage.next(&format!("both answers to question {number} under {under}"), deadline).await?;
        if let What::Note { note: Note::Answer { number: answered }, from, .. } = happening.what
            && happening.who == who
        {
            if answered != number {
                return Err(format!("order under {under}: an answer to question {answered} instead of {number}").into());
            }
            answers.insert(from, happening.at);
        }
    }
    Ok(answers.into_values().max().unwrap_or_default())
}

/// The time that this many percent of `times` do not exceed.
fn share(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

/// A member in a process of its own joins, talks, and is killed. Returns its port.
async fn die(stage: &mut Stage<'_>) -> Result<u16, BoxError> {
    stage.screen.heading("A hard death", "a fourth member, whose process is then killed (SIGKILL)");
    let mut victim = enter(stage, 0).await?;
    stage.env.sleep(SILENCE).await;
    let since = stage.env.now();
    victim.kill()?;
    stage.tell_at(since, VICTIM, format_args!("is killed, after {} of silence", Short(SILENCE)));
    stage.all_notice(NAMES.map(|name| (name, VICTIM)), Sight::Die, since).await?;
    let port = victim.port;
    stage.within(&format!("the end of the process of {VICTIM}"), victim.gone()).await?;
    Ok(port)
}

/// The same comes back at the same place, as a new member, and then leaves in order.
async fn rejoin(stage: &mut Stage<'_>, port: u16) -> Result<(), BoxError> {
    stage.screen.heading("A return", "at the same port: a new member with a new id, that then leaves in order");
    let victim = enter(stage, port).await?;
    let since = stage.env.now();
    stage.tell(VICTIM, "is told to leave");
    let leaving = stage.env.spawn(async move {
        // Whether it left in order is what the others see.
        let _ = victim.stop().await;
    });
    stage.all_notice(NAMES.map(|name| (name, VICTIM)), Sight::Leave, since).await?;
    stage.ended(&format!("the end of the process of {VICTIM}"), leaving).await
}

/// Starts the fourth member, waits until all see it, and has each of them talk to it.
async fn enter(stage: &mut Stage<'_>, port: u16) -> Result<Outsider, BoxError> {
    let since = stage.env.now();
    let group: Group = stage.group;
    let mut outsider = stage.within(&format!("the start of {VICTIM}"), Outsider::start(VICTIM, group, port)).await?;
    let started = Short(stage.env.now() - since);
    stage.tell(VICTIM, format_args!("listens at 127.0.0.1:{}, its process started in {started}", outsider.port));
    stage.all_notice(NAMES.map(|name| (name, VICTIM)), Sight::Join, since).await?;
    for actor in &stage.actors {
        let view = actor.channel.view();
        let known = |view: &View| view.members().iter().find(|member| member.payload() == VICTIM).cloned();
        let to = known(&view).ok_or_else(|| format!("{VICTIM} in the view of {}", actor.name))?;
        let hello = Note::Hello { text: format!("welcome from {}", actor.name) };
        stage
            .within(
                &format!("a greeting from {} to {VICTIM}", actor.name),
                actor.channel.send_message(&to, &hello, SendOptions::SYNC_ACK),
            )
            .await?;
        stage.within(&format!("{VICTIM} hearing {}", actor.name), outsider.hears()).await?;
    }
    stage.tell(VICTIM, "hears a greeting from each");
    Ok(outsider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_sorted_times() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!([50, 99, 100].map(|percent| share(&mut times, percent).as_millis()), [100, 198, 200]);
        assert_eq!(share(&mut [], 50), Duration::ZERO);
    }
}
