package shard

import (
	"fmt"
	"strings"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/replication/whale"
	"whale/pmem"
)

// simRig is a cluster on the simulated fabric: nothing arrives before the test says so.
type simRig struct {
	rig
	net     *simfab.Network
	engine  Fault
	clients map[string]*command.Client
	asked   map[string]*request
	shown   map[string]bool
	names   []string // of requests, in the order in which they were made
	story   strings.Builder
}

func newSimRig(t testing.TB, n int, core whale.Fault, engine Fault, options simfab.Options) *simRig {
	return newPolicyRig(t, n, replication.Mirror, 1, core, engine, options)
}

func newPolicyRig(t testing.TB, n int, policy replication.Policy, mirrors int, core whale.Fault, engine Fault, options simfab.Options) *simRig {
	return newProtocolRig(t, false, n, policy, mirrors, core, engine, options)
}

func newProtocolRig(t testing.TB, chain bool, n int, policy replication.Policy, mirrors int, core whale.Fault, engine Fault, options simfab.Options) *simRig {
	return newElasticRig(t, Elastic{}, chain, n, policy, mirrors, core, engine, options)
}

func newElasticRig(t testing.TB, elastic Elastic, chain bool, n int, policy replication.Policy, mirrors int, core whale.Fault, engine Fault, options simfab.Options) *simRig {
	s := &simRig{rig: rig{t: t, elastic: elastic, geo: smallGeometry, now: 1, chain: chain, fault: core, policy: policy, mirrors: mirrors}, net: simfab.New(options), engine: engine,
		clients: map[string]*command.Client{}, asked: map[string]*request{}, shown: map[string]bool{}}
	s.events = &s.story
	for i := range n {
		mem := pmem.Simulate(s.geo.Size(), pmem.ADR, uint64(i))
		if err := plog.Format(mem, s.geo, plog.Identity{Member: uint32(i)}); err != nil {
			t.Fatal(err)
		}
		s.members = append(s.members, &member{id: i, name: memberName(i), mem: mem})
	}
	for i := range n {
		s.boot(i)
	}
	return s
}

// boot starts a member from its memory and connects it to all that run.
func (s *simRig) boot(i int) {
	m := s.members[i]
	m.ep = s.net.Endpoint(m.name)
	if err := s.start(m); err != nil {
		fmt.Fprintf(&s.story, "%s: %v\n", m.name, err)
		m.e = nil
		return
	}
	m.e.Break(s.engine)
	for _, o := range s.members {
		if o != m && o.e != nil {
			s.connect(m, o)
		}
	}
}

func (s *simRig) connect(a, b *member) {
	ca, cb := s.net.Connect(a.name, b.name)
	a.e.Connected(b.id, ca)
	b.e.Connected(a.id, cb)
}

// redial connects anew what was lost.
func (s *simRig) redial() {
	for _, m := range s.members {
		for _, id := range m.e.Lost() {
			if o := s.members[id]; m.e.links[id].conn == nil {
				s.connect(m, o)
			}
		}
	}
}

// form lets everything arrive until all serve.
func (s *simRig) form() {
	s.net.Auto(true)
	s.untilServing()
	s.step()
	s.net.Auto(false)
}

func (s *simRig) member(name string) *member {
	for _, m := range s.members {
		if m.name == name {
			return m
		}
	}
	s.t.Fatalf("no member %q", name)
	return nil
}

// where tells what of P's last record is at each member: visible, or durable, which is what a loss of power would leave.
func (s *simRig) where() string {
	p := s.members[0]
	it, err := p.log.Seek(p.log.End())
	if err != nil {
		s.t.Fatal(err)
	}
	rec, _, _ := it.Next()
	var b strings.Builder
	for _, m := range s.members {
		durable := m.mem.(*pmem.Simulated).CrashDurable()
		state := func(at func(pmem.Memory) bool) string {
			switch {
			case at(durable):
				return "durable"
			case at(m.mem):
				return "visible"
			}
			return "absent"
		}
		data := state(func(mem pmem.Memory) bool {
			off := s.geo.Arena() + rec.Off
			return string(mem.Bytes()[off:off+uint64(rec.Len)]) == string(p.mem.Bytes()[off:off+uint64(rec.Len)])
		})
		slot := state(func(mem pmem.Memory) bool {
			slot, ok := plog.LoadSlot(mem, s.geo.SlotOff(rec.Seq))
			return ok && slot.Seq == rec.Seq
		})
		if m == p {
			fmt.Fprintf(&b, "  %s: data %s\n", m.name, data)
		} else {
			fmt.Fprintf(&b, "  %s: data %s, slot %s\n", m.name, data, slot)
		}
	}
	return b.String()
}

// region tells which part of a member's memory an operation is for.
func (s *simRig) region(e simfab.Event) string {
	off := e.Off + s.geo.Control()
	switch {
	case e.Kind == fabric.Send:
		return "message"
	case e.Kind == fabric.Flush:
		return "flush"
	case e.Kind == fabric.Read && off < s.geo.Ring():
		return "readS"
	case e.Kind == fabric.Read:
		return "readBytes"
	case off < s.geo.Ring():
		return "control"
	case off < s.geo.Arena():
		return "slots"
	}
	return "data"
}

// deliver lets operations on the way from one member to another arrive, those for one region or ("") all.
func (s *simRig) deliver(from, to, region string) int {
	return s.net.DeliverAll(simfab.From(from), simfab.To(to), func(e simfab.Event) bool { return region == "" || s.region(e) == region })
}

// pending lists what is on the way, and counts what is alike and stands together.
func (s *simRig) pending() string {
	var b strings.Builder
	last, n := "", 0
	flush := func() {
		if b.WriteString(last); n > 1 {
			fmt.Fprintf(&b, " x%d", n)
		}
		if n > 0 {
			b.WriteString("\n")
		}
	}
	for _, e := range s.net.Pending() {
		text := fmt.Sprintf("  %s->%s %s", e.From, e.To, s.region(e))
		if text != last {
			flush()
			last, n = text, 0
		}
		n++
	}
	if flush(); b.Len() == 0 {
		return "  nothing\n"
	}
	return b.String()
}

// crash ends a member's process; its memory stays.
func (s *simRig) crash(m *member) {
	s.net.Crash(m.name)
	m.e = nil
	for _, o := range s.members {
		if o.e != nil {
			o.e.Step(s.now)
		}
	}
}

// holders are the members besides P at which a committed record has to be.
func (s *simRig) holders() (m []*member) {
	if s.elastic.Lease == 0 {
		return s.members[1 : 1+s.policy.Mirrors(s.mirrors, len(s.members))]
	}
	v, _ := s.coord.Read(s.t.Context())
	for _, r := range v.InSync[1:] {
		m = append(m, s.members[r.ID])
	}
	return m
}

// check looks at the members' memories and says which invariant does not hold. It shares no code with the engine but the
// layout.
func (s *simRig) check() string {
	p := s.members[0]
	if p.e == nil || !p.e.Status().Serving {
		return ""
	}
	tag, stable := plog.SplitWord(p.log.Control().S())
	epoch := p.log.Epoch()
	if tag != uint16(epoch) {
		return ""
	}
	for seq := uint64(1); seq <= stable; seq++ {
		it, err := p.log.Seek(seq)
		if err != nil {
			return fmt.Sprintf("StableIsHeld: P does not hold record %d", seq)
		}
		rec, _, _ := it.Next()
		for _, b := range s.members[1:] {
			if b.e == nil {
				continue
			}
			if st := b.e.Status(); !st.Serving || !st.Leased {
				continue
			}
			slot, ok := plog.LoadSlot(b.mem, s.geo.SlotOff(seq))
			if seq > b.st.Drained() && !(ok && slot.Seq == seq && slot.Epoch == epoch) {
				return fmt.Sprintf("KnownBeforeStable: S is %d, and the slot of %d is not visible at %s", stable, seq, b.name)
			}
		}
		for _, m := range s.holders() {
			if !m.log.Verify(rec) {
				return fmt.Sprintf("StableIsHeld: S is %d, and %s does not hold record %d", stable, m.name, seq)
			}
		}
	}
	return ""
}
