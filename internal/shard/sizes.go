package shard

// Sizes are how much an engine holds in memory besides what is made once: for checks that it stays bounded. The loop.
type Sizes struct {
	Queued    int // waiting to be executed, or to be forwarded to P: at most Config.QueueLimit
	Away      int // reads on their way to the member that answers them
	Gated     int // (P) executed; the reply waits for S
	Waits     int // (P) WAIT
	Unsettled int // (backup) reads that wait for P's word, or for bytes
	Relayed   int // forwarded, and not answered
	Lent      int // requests of other members that are under way here

	Deadlines int    // of forwarded requests: what was answered leaves when its time is over, at the latest
	Wanted    int    // records whose bytes are to be asked for
	Inputs    int    // what the core has not been told yet
	Outbox    int    // operations that a connection's queue had no room for: the longest
	Messages  uint64 // bytes of messages that were not sent, or not received whole: the most of a connection
}

// Requests is how many are with the engine.
func (s *Sizes) Requests() int {
	return s.Queued + s.Away + s.Gated + s.Waits + s.Unsettled + s.Relayed
}

// Sizes tells what is held now.
func (e *Engine) Sizes() Sizes {
	r := &e.relay
	s := Sizes{
		Queued: e.queue.len(), Away: e.away.len(), Gated: e.gated.len(), Waits: len(e.waits), Unsettled: e.dirty.len(),
		Relayed: len(r.waiting), Lent: r.made - len(r.pool), Deadlines: r.order.len() + len(r.waits), Wanted: len(e.dirty.need),
		Inputs: len(e.in.Appended) + len(e.in.Done) + len(e.in.Fetch),
	}
	for i := range e.links {
		l := &e.links[i]
		s.Outbox = max(s.Outbox, len(l.outbox))
		s.Messages = max(s.Messages, uint64(len(l.channel.out)+len(l.channel.in)))
	}
	return s
}
