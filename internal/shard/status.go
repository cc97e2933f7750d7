package shard

// Status is a member's state as it is shown to people and programs. Positions are seqs.
type Status struct {
	Primary   bool
	Serving   bool   // a member of an active view
	Leased    bool   // and holds the leases that it takes to answer reads
	Writable  bool   // (P) all members of the view are connected, and writes can become stable
	Err       error  // why the shard is not served any more
	Epoch     uint32 // of the view, or of the one that is being formed
	End       uint64 // prepared: the last record of the log here
	Stable    uint64 // S
	Every     uint64 // DW (P)
	Drained   uint64
	Installed uint64
	Keys      int64 // (P) in the newest state
	Timed     int64 // (P) those of them that expire some day
	ArenaFree uint64
	Counters  Counters
	Queued    int // requests waiting to be executed, or to be sent to P
	Gated     int // (P) requests whose reply waits for S
	Unsettled int // (backup) reads that wait for P's word
	Members   []MemberStatus
}

// MemberStatus is what is known of another member here. Only P knows how far the others are.
type MemberStatus struct {
	ID        int
	Name      string
	Self      bool
	Connected bool
	Drained   uint64
	Durable   uint64
	Forwarded uint64
}

// Status describes the member as it is now.
func (e *Engine) Status() Status {
	s := Status{
		Primary: e.primary(), Serving: e.serving.Load() != 0, Leased: e.leased(), Err: e.err, Epoch: e.log.Epoch(),
		End: e.log.End(), Stable: e.st.Stable(), Drained: e.st.Drained(), Installed: e.st.Installed(), ArenaFree: e.log.Free(),
		Counters: e.counts, Queued: e.queue.len(), Gated: e.gated.len(), Unsettled: e.dirty.len(),
	}
	if s.Primary {
		s.Keys, s.Timed, s.Every = e.st.Keys(), e.st.Timed(), e.out.Every
		s.Writable = s.Serving && e.intact()
	}
	for i := range e.links {
		m := MemberStatus{ID: i, Name: e.name(i), Self: i == e.cfg.Self, Connected: e.links[i].conn != nil}
		if m.Self {
			m.Connected, m.Drained, m.Durable = true, s.Drained, s.End
		}
		s.Members = append(s.Members, m)
	}
	if s.Primary && e.view != nil {
		for i, p := range e.in.Peers {
			if m := &s.Members[e.view.Members[i].ID]; !m.Self {
				m.Drained, m.Durable, m.Forwarded = p.Drained, e.core.Held(i), p.Forwarded
			}
		}
	}
	return s
}

// Serves is the epoch in which this member serves, 0 if it does not, and whether it may answer reads now.
func (e *Engine) Serves() (epoch uint32, leased bool) { return e.serving.Load(), e.leased() }
