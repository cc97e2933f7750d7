package node

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"whale/internal/command"
	"whale/internal/shard"
)

// The metrics. Nothing is counted for them alone: a scrape reads the counters that are there, and asks the loop once.

func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("whale_"+name, help, labels, nil)
}

var (
	mInfo     = metric("info", "1; the labels say what runs here.", "version", "member", "role", "policy")
	mServing  = metric("serving", "1 if this node answers linearizable reads now.")
	mWritable = metric("writable", "1 if writes can become stable now (primary).")
	mEpoch    = metric("epoch", "Epoch of the view.")
	mViews    = metric("views_total", "Views that were formed since the start.")
	mCertEnd  = metric("tls_certificate_end_seconds", "When this node's certificate ends, in seconds since 1970 (with TLS).")

	mClients  = metric("clients", "Connections of Redis clients.")
	mWaiting  = metric("clients_waiting", "Connections that are in WAIT.")
	mAccepted = metric("clients_accepted_total", "Connections that were accepted.")
	mRejected = metric("clients_rejected_total", "Connections that were refused because of --max-clients.")
	mIn       = metric("net_input_bytes_total", "Bytes received from clients.")
	mOut      = metric("net_output_bytes_total", "Bytes sent to clients.")
	mCommands = metric("commands_total", "Commands received from clients.")
	mDuration = metric("command_duration_seconds", "From the arrival of a command at this node to its reply, the time of its batch included.", "command")

	mPrepared   = metric("prepared_records", "The last record of the log here.")
	mStable     = metric("stable_records", "S: every record up to it is committed.")
	mEverywhere = metric("everywhere_records", "DW: every member holds every record up to it durably (primary).")
	mDrained    = metric("drained_records", "The ring is drained up to this record (backup).")
	mInstalled  = metric("installed_records", "The index has every record up to this one (backup).")

	mLagRecords = metric("lag_records", "Records by which the position is behind what is prepared here.", "position")
	mLagBytes   = metric("lag_bytes", "Bytes of the log by which the position is behind what is prepared here.", "position")
	mLagSeconds = metric("lag_seconds", "Age of the oldest record that is prepared here and not covered by the position.", "position")

	mConnected     = metric("member_connected", "1 if this node is connected to the member.", "member")
	mMemberRecords = metric("member_lag_records", "Records by which a member's position is behind what is prepared at the primary (primary).", "member", "position")
	mMemberBytes   = metric("member_lag_bytes", "Bytes of the log by which a member's position is behind what is prepared at the primary (primary).", "member", "position")
	mMemberSeconds = metric("member_lag_seconds", "Age of the oldest record that is prepared at the primary and not covered by a member's position (primary).", "member", "position")

	mArena     = metric("arena_bytes", "Size of the arena.")
	mArenaUsed = metric("arena_used_bytes", "Used part of the arena.")
	mIndex     = metric("index_bytes", "Memory of the index.")
	mRing      = metric("ring_slots", "Slots of the metadata ring.")
	mRingUsed  = metric("ring_used_slots", "Slots of a member's ring that are not drained (primary), or drained and not installed (backup, its own).", "member")
	mKeys      = metric("keys", "Keys in the newest state (primary).")

	mQueued    = metric("queued_commands", "Commands that wait to be executed, or to be sent to the primary.")
	mGated     = metric("gated_replies", "Executed commands whose replies wait for S (primary).")
	mUnsettled = metric("unsettled_reads", "Reads that wait for the primary's word (backup).")

	mExecuted    = metric("executed_commands_total", "Commands executed by the shard, those of other members' clients included (primary).")
	mForwarded   = metric("forwarded_commands_total", "Commands sent to the primary (backup).")
	mDirty       = metric("dirty_reads_total", "Reads that needed the primary's word (backup).")
	mOperations  = metric("fabric_operations_total", "Operations handed to the fabric, messages excluded.")
	mCompletions = metric("fabric_completions_total", "Operations that the fabric completed, messages included.")
	mFlushes     = metric("fabric_flushes_total", "Flushes that the fabric completed.")

	descs = []*prometheus.Desc{mInfo, mServing, mWritable, mEpoch, mViews, mCertEnd, mClients, mWaiting, mAccepted, mRejected, mIn, mOut, mCommands, mDuration,
		mPrepared, mStable, mEverywhere, mDrained, mInstalled, mLagRecords, mLagBytes, mLagSeconds, mConnected, mMemberRecords, mMemberBytes,
		mMemberSeconds, mArena, mArenaUsed, mIndex, mRing, mRingUsed, mKeys, mQueued, mGated, mUnsettled, mExecuted, mForwarded, mDirty,
		mOperations, mCompletions, mFlushes}
)

// collector implements [prometheus.Collector].
type collector struct{ admin *admin }

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	snap, err := c.admin.look()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(mServing, err)
		return
	}
	m := sink{ch}
	c.node(m, &snap)
	c.clients(m)
	c.positions(m, &snap)
	c.memory(m, &snap)
	k := &snap.status.Counters
	m.gauge(mQueued, float64(snap.status.Queued))
	m.counter(mOperations, k.Operations)
	m.counter(mCompletions, k.Completions)
	m.counter(mFlushes, k.Flushes)
	m.counter(mViews, k.Views)
	if snap.status.Primary {
		m.gauge(mGated, float64(snap.status.Gated))
		m.counter(mExecuted, k.Executed)
	} else {
		m.gauge(mUnsettled, float64(snap.status.Unsettled))
		m.counter(mForwarded, k.Forwarded)
		m.counter(mDirty, k.DirtyReads)
	}
}

// sink makes metrics.
type sink struct{ ch chan<- prometheus.Metric }

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s sink) bit(d *prometheus.Desc, v bool, labels ...string) {
	if v {
		s.gauge(d, 1, labels...)
	} else {
		s.gauge(d, 0, labels...)
	}
}

func (c *collector) node(m sink, snap *snapshot) {
	cfg := c.admin.server.cfg
	m.gauge(mInfo, 1, cfg.Version, strconv.Itoa(cfg.ID), snap.state.Role, cfg.Policy.String())
	m.bit(mServing, snap.state.Serving)
	m.gauge(mEpoch, float64(snap.status.Epoch))
	if ends := c.admin.server.certificateEnds; !ends.IsZero() {
		m.gauge(mCertEnd, float64(ends.Unix()))
	}
	if snap.status.Primary {
		m.bit(mWritable, snap.status.Writable)
		m.gauge(mKeys, float64(snap.status.Keys))
	}
	for _, member := range snap.status.Members {
		if !member.Self {
			m.bit(mConnected, member.Connected, strconv.Itoa(member.ID))
		}
	}
}

func (c *collector) clients(m sink) {
	s := c.admin.server
	commands, in, out := s.counted()
	m.gauge(mClients, float64(s.connected()))
	m.gauge(mWaiting, float64(s.waiting()))
	m.counter(mAccepted, uint64(s.total.Load()))
	m.counter(mRejected, uint64(s.rejected.Load()))
	m.counter(mIn, in)
	m.counter(mOut, out)
	m.counter(mCommands, commands)
	for _, cmd := range command.All() {
		counts, calls, micros := s.notes.Of(cmd)
		if calls == 0 {
			continue
		}
		buckets, sum := make(map[float64]uint64, command.Buckets), uint64(0)
		for i, n := range counts[:command.Buckets-1] { // the last one has no upper end
			sum += n
			buckets[float64(uint64(1)<<i)/1e6] = sum
		}
		m.ch <- prometheus.MustNewConstHistogram(mDuration, calls, float64(micros)/1e6, buckets, cmd.Name)
	}
}

func (c *collector) positions(m sink, snap *snapshot) {
	st := &snap.status
	m.gauge(mPrepared, float64(st.End))
	m.gauge(mStable, float64(st.Stable))
	m.lag(mLagRecords, mLagBytes, mLagSeconds, &snap.lags.Stable, "stable")
	if !st.Primary {
		m.gauge(mDrained, float64(st.Drained))
		m.gauge(mInstalled, float64(st.Installed))
		return
	}
	m.gauge(mEverywhere, float64(st.Every))
	m.lag(mLagRecords, mLagBytes, mLagSeconds, &snap.lags.Everywhere, "everywhere")
	for i := range snap.lags.Members {
		if st.Members[i].Self {
			continue
		}
		member, l := strconv.Itoa(st.Members[i].ID), &snap.lags.Members[i]
		m.lag(mMemberRecords, mMemberBytes, mMemberSeconds, &l.Drained, member, "drained")
		m.lag(mMemberRecords, mMemberBytes, mMemberSeconds, &l.Durable, member, "durable")
		m.lag(mMemberRecords, mMemberBytes, mMemberSeconds, &l.Forwarded, member, "forwarded")
	}
}

func (s sink) lag(records, bytes, seconds *prometheus.Desc, l *shard.Lag, labels ...string) {
	s.gauge(records, float64(l.Records), labels...)
	s.gauge(bytes, float64(l.Bytes), labels...)
	s.gauge(seconds, l.Time.Seconds(), labels...)
}

func (c *collector) memory(m sink, snap *snapshot) {
	f, st := &snap.figures, &snap.status
	m.gauge(mArena, float64(f.arena))
	m.gauge(mArenaUsed, float64(f.arenaUsed))
	m.gauge(mIndex, float64(f.index))
	m.gauge(mRing, float64(f.ring))
	for i, member := range st.Members {
		switch {
		case member.Self && !st.Primary:
			m.gauge(mRingUsed, float64(st.Drained-min(st.Installed, st.Drained)), strconv.Itoa(member.ID))
		case !member.Self && st.Primary:
			m.gauge(mRingUsed, float64(min(snap.lags.Members[i].Drained.Records, f.ring)), strconv.Itoa(member.ID))
		}
	}
}
