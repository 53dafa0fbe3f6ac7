use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use dataplane_ebpf::abi::{Event, EventKind, FlowKey};
use serde::{Deserialize, Serialize};

use super::names::Known;
use crate::bpf::ReasonText;
use crate::model::{EnvironmentKey, ServiceKey};

/// What follows in the stream `GET /v1/monitor` (one JSON object a line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum MonitorEvent {
    /// A socket was sent to a backend, which is the destination; its own port it gets after that.
    Connect(Traffic),
    /// A packet or socket was dropped. There is one such line at most for each service, reason and CPU in 100 ms, whatever
    /// the number of drops; `skepctl drops` has their count.
    Drop(Dropped),
    /// This follower was too slow.
    Missed {
        /// Events of any kind that it will not hear of.
        events: u64,
    },
}

/// A packet or socket, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Traffic {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Whose; none when nobody wants that environment any more, or the traffic is nobody's.
    pub project: Option<String>,
    /// See `project`.
    pub environment: Option<String>,
    /// Whose; none when nobody wants that service any more, or the traffic is nobody's.
    pub service: Option<String>,
    /// The environment's id; 0 for nobody's.
    pub env_id: u32,
    /// The service's id; 0 for nobody's.
    pub service_id: u32,
    /// IP protocol number; 0, with addresses `::`, when the packet could not be read.
    pub protocol: u8,
    /// Where it comes from.
    #[schema(value_type = String)]
    pub source: IpAddr,
    /// For ICMP echo the identifier; 0 for none, or one not chosen yet.
    pub source_port: u16,
    /// Where it goes.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// For ICMP echo the identifier; 0 for none.
    pub destination_port: u16,
    /// The service that has the destination's address, virtual or a replica's: `project/environment/service`.
    pub destination_service: Option<String>,
}

/// A drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Dropped {
    /// What and whose.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Why.
    #[serde(flatten)]
    pub reason: ReasonText,
}

/// A moment, on the clock of the programs and on people's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    monotonic: u64,
    /// Since 1970-01-01 UTC, in milliseconds.
    unix: u64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
        Self { monotonic: crate::clock::monotonic(), unix: u64::try_from(unix).unwrap_or(u64::MAX) }
    }

    /// What people's clock showed at a time of the programs' one.
    fn unix_ms(self, at: u64) -> u64 {
        self.unix.saturating_sub(self.monotonic.saturating_sub(at) / 1_000_000)
    }
}

impl MonitorEvent {
    /// What a program told, with names; `None` for a kind that this version does not know.
    pub(super) fn new(event: &Event, known: &Known, now: Moment) -> Option<Self> {
        let traffic = || Traffic::new(event, known, now);
        match event.kind {
            kind if kind == EventKind::Connect as u32 => Some(Self::Connect(traffic())),
            kind if kind == EventKind::Drop as u32 => {
                Some(Self::Drop(Dropped { traffic: traffic(), reason: event.reason.into() }))
            }
            _ => None,
        }
    }

    /// What and whose; a line about the stream itself has neither.
    pub fn traffic(&self) -> Option<&Traffic> {
        match self {
            Self::Connect(traffic) | Self::Drop(Dropped { traffic, .. }) => Some(traffic),
            Self::Missed { .. } => None,
        }
    }
}

impl Traffic {
    fn new(event: &Event, known: &Known, now: Moment) -> Self {
        let Event { at, identity, tuple, .. } = event;
        let service = known.service(identity.service);
        let environment = known.environment(identity.env);
        let destination = tuple.destination.to_ip();
        Self {
            time_ms: now.unix_ms(*at),
            project: environment.map(|key| key.project.clone()),
            environment: environment.map(|key| key.environment.clone()),
            service: service.map(|key| key.service.clone()),
            env_id: identity.env,
            service_id: identity.service,
            protocol: tuple.protocol,
            source: tuple.source.to_ip(),
            source_port: u16::from_be(tuple.source_port),
            destination,
            destination_port: u16::from_be(tuple.destination_port),
            destination_service: known.at(destination).map(ServiceKey::to_string),
        }
    }

    /// The tuple as the maps have it.
    pub fn tuple(&self) -> FlowKey {
        FlowKey {
            source: self.source.into(),
            destination: self.destination.into(),
            source_port: self.source_port.to_be(),
            destination_port: self.destination_port.to_be(),
            protocol: self.protocol,
            pad: [0; 3],
        }
    }

    /// Whose environment it is.
    pub fn environment_key(&self) -> Option<EnvironmentKey> {
        let (project, environment) = self.project.clone().zip(self.environment.clone())?;
        Some(EnvironmentKey { project, environment })
    }
}

#[cfg(test)]
mod tests {
    use dataplane_ebpf::abi::{Identity, Reason};

    use super::*;

    const NOW: Moment = Moment { monotonic: 10_000_000_000, unix: 1_700_000_000_000 };

    fn event(kind: u32, reason: u32) -> Event {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap().into();
        let tuple = FlowKey {
            source: ip("10.208.0.5"),
            destination: ip("10.208.0.9"),
            destination_port: 5_432_u16.to_be(),
            protocol: 6,
            ..FlowKey::default()
        };
        Event { at: 8_750_000_000, identity: Identity { env: 1, service: 10 }, kind, reason, tuple }
    }

    #[test]
    fn a_drop_is_told_with_names_its_time_and_what_to_do() {
        let reason = Reason::OtherEnvironment;
        let told = MonitorEvent::new(&event(EventKind::Drop as u32, reason as u32), &Known::sample(), NOW).unwrap();
        let line = serde_json::to_value(&told).unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "event": "drop", "time_ms": 1_699_999_998_750_u64,
                "project": "shop", "environment": "production", "service": "web", "env_id": 1, "service_id": 10,
                "protocol": 6, "source": "10.208.0.5", "source_port": 0,
                "destination": "10.208.0.9", "destination_port": 5432, "destination_service": "shop/staging/postgres",
                "reason": "other-environment", "explanation": reason.explanation(), "remedy": reason.remedy(),
            })
        );
        assert_eq!(serde_json::from_value::<MonitorEvent>(line).unwrap(), told);
    }

    #[test]
    fn what_has_no_name_keeps_its_ids_and_addresses() {
        let told = MonitorEvent::new(&event(EventKind::Connect as u32, 0), &Known::default(), NOW).unwrap();
        let traffic = told.traffic().unwrap();
        assert_eq!((traffic.env_id, traffic.service_id, traffic.environment_key()), (1, 10, None));
        assert_eq!((&traffic.service, &traffic.destination_service), (&None, &None));
        assert_eq!(traffic.tuple(), event(0, 0).tuple);
    }

    #[test]
    fn another_version_s_kind_is_passed_over() {
        assert_eq!(MonitorEvent::new(&event(77, 0), &Known::sample(), NOW), None);
    }
}
