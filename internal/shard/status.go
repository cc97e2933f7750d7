package shard

// Status is a member's state as it is shown to people and programs. Positions are seqs.
type Status struct {
	Primary   bool
	Serving   bool   // reads are answered from here
	Writable  bool   // (P) all members are connected, and writes can become stable
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
		Primary: e.primary(), Serving: e.serving.Load() != 0, Err: e.err, Epoch: e.log.Epoch(),
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
		} else if s.Primary && e.view != nil && i < len(e.in.Peers) {
			m.Drained, m.Durable, m.Forwarded = e.in.Peers[i].Drained, e.core.Held(i), e.in.Peers[i].Forwarded
		}
		s.Members = append(s.Members, m)
	}
	return s
}
