// @ts-check
// The way to the daemon, and what it answers. Types and fields are named as in /api/v1/openapi.json; what no screen
// needs is left out. Times are in seconds since the Unix epoch; packets and bytes are scaled by sampling.

/**
 * @typedef {object} Volume
 * @property {number} packets
 * @property {number} bytes
 */
/**
 * @typedef {object} Point averages over the step of its series
 * @property {number} time
 * @property {number} packets_per_second_in
 * @property {number} bytes_per_second_in
 * @property {number} packets_per_second_out
 * @property {number} bytes_per_second_out
 */
/**
 * @typedef {object} Series
 * @property {number} step seconds of one point
 * @property {Point[]} points oldest first
 */
/**
 * @typedef {object} AttackStatus an attack in progress
 * @property {string} id
 * @property {string} prefix
 * @property {string} direction `incoming` or `outgoing`
 * @property {string} group
 * @property {string} threshold in words
 * @property {number} detected
 * @property {number} severity highest rate as a multiple of the threshold
 * @property {number} packets_per_second
 * @property {number} bytes_per_second
 */
/**
 * @typedef {object} PastAttack an attack on record
 * @property {string} id
 * @property {string} prefix
 * @property {string} direction `incoming` or `outgoing`
 * @property {string} group
 * @property {string} threshold in words
 * @property {number} detected
 * @property {?number} ended null while it goes on
 * @property {number} severity highest rate as a multiple of the threshold
 * @property {number} peak_packets_per_second
 * @property {number} peak_bytes_per_second
 */
/**
 * @typedef {object} PastEvent
 * @property {number} time
 * @property {string} kind such as `alarm`, `candidates`, `announce`
 * @property {Entry} entry
 */
/**
 * @typedef {object} AttackPage
 * @property {PastAttack} attack
 * @property {PastEvent[]} events oldest first
 * @property {Series} series
 */
/**
 * @typedef {object} SampleRow a sampled packet, or a flow record
 * @property {number} time
 * @property {string} source
 * @property {string} destination
 * @property {number} protocol
 * @property {number} source_port
 * @property {number} destination_port
 * @property {number} length bytes
 * @property {number} tcp_flags
 * @property {number} packets that it stands for
 */
/**
 * @typedef {object} SamplePage
 * @property {number} count samples in all
 * @property {Record<string, Facet[]>} facets what the newest sample is made of, by field, most first
 * @property {SampleRow[]} samples the first 2,000
 */
/**
 * @typedef {object} MitigationStatus a rule or a blackhole
 * @property {string} id
 * @property {string} prefix
 * @property {string} route in words
 * @property {string} kind `flowspec`, or `blackhole` and others that are of one host
 * @property {string} action in words
 * @property {string} origin `manual` or `automatic`
 * @property {?Order} order who ordered it
 * @property {?string} dry_run why it is not announced, if so
 * @property {boolean} awaits_approval
 * @property {number} since
 * @property {?number} ends at the earliest
 * @property {number} coverage share of the sample that it matched, 0 to 1
 * @property {string[]} sent_to peers
 * @property {Record<string, string>} not_sent why not, by peer
 * @property {?Record<string, unknown>} rule in FastNetMon's JSON
 * @property {?Volume} hits what matched since it came into force
 * @property {?Volume} would_have_hit what matched while it is not announced
 */
/**
 * @typedef {object} ExporterStatus
 * @property {string} address
 * @property {string[]} protocols
 * @property {number} silent_seconds
 * @property {number} records_per_second
 * @property {number} records
 * @property {number} lost_records
 * @property {number} sampling_rate N of 1:N; 0 before the first record
 * @property {string} sampling_source
 * @property {?number} measured_rate what its counters show, if that is another rate
 * @property {number} clock_skew_ms
 * @property {Record<string, number>} errors by reason
 */
/**
 * @typedef {object} PeerStatus
 * @property {string} name
 * @property {string} state
 * @property {string[]} families
 * @property {number} routes_sent
 * @property {?number} uptime_seconds
 * @property {?string} last_error
 */
/**
 * @typedef {object} AuditRecord
 * @property {number} time
 * @property {string} user
 * @property {string} action
 * @property {?string} reason
 * @property {boolean} done
 * @property {string} result
 */
/**
 * @typedef {object} Session
 * @property {string} user
 * @property {boolean} logged_in
 */
/**
 * @typedef {object} Done
 * @property {string} text for people
 * @property {any} value
 */

// What the document says no more of than that it is an object.

/** @typedef {{ value: string, share: number }} Facet a value in words, and its share of the packets, 0 to 1 */
/** @typedef {{ owner: string, reason: string }} Order */
/**
 * @typedef {object} Candidate a rule that the miner looked at
 * @property {string} rule
 * @property {number} coverage share of the sample's packets, 0 to 1
 * @property {number} coverage_bytes share of its bytes
 * @property {?number} collateral share of the ordinary traffic, if that is known
 * @property {string} reason why it was taken or left
 */
/**
 * @typedef {object} Entry something that happened; each event has fields of its own
 * @property {number} time
 * @property {string} event
 * @property {{ prefix: string, direction: string }} [target]
 * @property {string} [route]
 * @property {string} [threshold]
 * @property {string} [verdict]
 * @property {string} [reason]
 * @property {string} [owner]
 * @property {string} [rate]
 * @property {string} [action]
 * @property {string} [peer]
 * @property {?string} [advice]
 * @property {string} [text]
 * @property {{ observed: number, window_ms: number, lower_bound: number }} [evidence] of an alarm
 * @property {Candidate[]} [ranking] best first
 */
/**
 * @typedef {object} Tick what changes each second
 * @property {number} time
 * @property {boolean} dry_run
 * @property {boolean} halted
 * @property {Volume} incoming since the start
 * @property {Volume} outgoing since the start
 * @property {number} active_hosts
 * @property {string[]} warnings
 * @property {AttackStatus[]} attacks
 * @property {MitigationStatus[]} mitigations
 * @property {{ name: string, state: string }[]} peers
 * @property {{ silent_seconds: number }[]} exporters
 */
/**
 * @typedef {object} HostRates averages of one own host, to it and from it
 * @property {string} host
 * @property {?string} group
 * @property {number} packets_per_second
 * @property {number} bytes_per_second
 * @property {number} outgoing_packets_per_second
 * @property {number} outgoing_bytes_per_second
 */
/**
 * @typedef {object} Learned a rate of ordinary traffic
 * @property {string} of
 * @property {string} direction
 * @property {'packets' | 'bytes' | 'flows'} unit
 * @property {number} p50
 * @property {number} p99
 * @property {number} p999
 * @property {number} max
 * @property {number} suggested_threshold
 * @property {number} seconds that were learned
 * @property {string} from where the suggestion comes from
 */
/** @typedef {{ revision: number, time: number, user: string, comment: ?string }} Revision */
/** @typedef {{ commits: Revision[], unconfirmed: ?{ deadline: number } }} Commits */

/** The daemon's no, with its HTTP status. */
export class Refusal extends Error {
  /**
   * @param {string} text
   * @param {number} status
   */
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/**
 * Asks the daemon.
 * @param {string} method
 * @param {string} path below /api/v1/
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function api(method, path, body) {
  const answer = await fetch(`/api/v1/${path}`, {
    method,
    headers: { 'x-floodwall': '1', ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const value = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(value?.error ?? `the daemon answered ${answer.status}`, answer.status);
  return value;
}

/** @param {string} path below /api/v1/ */
export const get = (path) => api('GET', path);
