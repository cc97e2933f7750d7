package shard

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"whale/fabric/simfab"
	"whale/internal/cluster"
	"whale/internal/command"
	"whale/internal/replication"
	"whale/internal/replication/whale"
)

func newLeasedRig(t testing.TB, n int, fault Fault) *simRig {
	elastic := Elastic{Lease: 300 * time.Millisecond, Patience: 100 * time.Millisecond, Drift: 1000}
	s := newElasticRig(t, elastic, false, n, replication.Mirror, 1, whale.FaultNone, fault, simfab.Options{})
	s.form()
	return s
}

// pass lets time go by in small steps, and everything arrive.
func (s *simRig) pass(d time.Duration) {
	for end := s.now + int64(d); s.now < end; {
		s.now += 10e6
		for s.step() || s.net.DeliverAll() > 0 {
		}
	}
}

// A read that takes so long that the lease is over when it has its value is not answered, though its lease was good when it
// began. The step's time is of no use here: it is older still.
func TestTheLeaseIsLookedAtWithTheValueInHand(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	for _, m := range s.members {
		slow := *command.Lookup([]byte("get"))
		run := slow.Run
		stop := false
		slow.Run = func(c *command.Ctx) {
			run(c)
			if stop {
				s.now += int64(s.elastic.Lease)
			}
		}
		for _, stop = range []bool{false, true} {
			q := newRequest(&command.Client{}, "get", "k")
			q.Cmd = &slow
			if got := m.e.TryRun(&q.Request); got == stop || stop && len(q.W.Buf) > 0 {
				t.Errorf("%s: stopped in the middle %v, and answered %v with %q", m.name, stop, got, q.W.Buf)
			}
		}
		s.now -= int64(s.elastic.Lease)
	}
}

// The same in the loop, where a chain's tail decides alone what is committed.
func TestTheLoopLooksAtTheLeaseWithTheValueInHand(t *testing.T) {
	elastic := Elastic{Lease: 300 * time.Millisecond, Patience: 100 * time.Millisecond}
	s := newElasticRig(t, elastic, true, 3, replication.Mirror, 1, whale.FaultNone, FaultNone, simfab.Options{})
	s.form()
	tail := s.members[2].e
	slow := *command.Lookup([]byte("get"))
	run, runs := slow.Run, 0
	slow.Run = func(c *command.Ctx) {
		if run(c); runs == 0 {
			s.now += int64(elastic.Lease)
		}
		runs++
	}
	q := newRequest(&command.Client{}, "get", "k")
	q.Cmd = &slow
	tail.Submit(&q.Request)
	for range 5 {
		tail.Step(s.now)
	}
	if q.done || runs != 1 {
		t.Fatalf("answered %v with %q, after it was run %d times: want once, and no answer without a lease", q.done, q.W.Buf, runs)
	}
	s.pass(50 * time.Millisecond)
	if !q.done || string(q.W.Buf) != "$-1\r\n" {
		t.Fatalf("answered %v with %q, when there is a lease again", q.done, q.W.Buf)
	}
}

// A promise counts from when the question is here. A process that was stopped since its step began would else promise less
// than it gives.
func TestAPromiseCountsFromTheQuestion(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	for _, m := range s.members[:2] {
		s.now += 5e9 // and no step
		if m.id == 0 {
			m.e.until.Store(s.now + int64(s.elastic.Lease))
		}
		from := 1 - m.id
		m.e.leaseAsked(from, m.e.serving.Load(), s.now)
		if _, promised := m.e.Lease(from); promised < s.now+int64(s.elastic.Lease) {
			t.Errorf("%s promises %v, and gives %v", m.name, time.Duration(promised-s.now), s.elastic.Lease)
		}
	}
}

// However fast or slow the clocks are, within the bound: who waits on its own clock for a stretched time has waited for what
// another one counts in two parts, on two more clocks.
func TestStretch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		c := Elastic{Drift: []float64{0, 10, 1000, 500_000}[rng.IntN(4)]}
		rate := func() float64 { return 1 + c.Drift/1e6*float64(rng.IntN(3)-1) }
		d := 1 + rng.Int64N(int64(time.Hour))
		part := rng.Int64N(d + 1)
		real := float64(part)/rate() + float64(d-part)/rate()
		if waited := float64(c.stretch(d)) / rate(); waited < real-1e-3 {
			t.Fatalf("drift %v: %d ns, stretched, are over after %v; the lease after %v", c.Drift, d, waited, real)
		}
	}
}

func TestAnswersToNoQuestionAreMalformed(t *testing.T) {
	s := newLeasedRig(t, 2, FaultNone)
	b := s.members[1].e
	held := b.until.Load()
	epoch := b.serving.Load()
	body := func(words ...uint64) []byte {
		m := le.AppendUint32(nil, epoch)
		for _, w := range words {
			m = le.AppendUint64(m, w)
		}
		return m
	}
	for name, m := range map[string][]byte{
		"of the future": body(uint64(s.now+1e9), uint64(time.Hour)),
		"of never":      body(0, 1),
		"negative":      body(1, 1<<63),
		"cut off":       body(1),
		"too long":      body(1, 1, 1),
	} {
		if err := b.message(0, msgGrant, m); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if b.until.Load() != held {
		t.Error("a malformed answer changed the lease")
	}
	if err := b.message(0, msgGrant, body(uint64(b.leases[0].asked), 1<<62)); err != nil || b.until.Load() > s.now+int64(s.elastic.Lease) {
		t.Errorf("%v: a lease of %v, longer than any", err, time.Duration(b.until.Load()-s.now))
	}
	fixed := newSimRig(t, 2, 0, 0, simfab.Options{})
	fixed.form()
	if err := fixed.members[1].e.message(0, msgGrant, body(1, 1)); err == nil {
		t.Error("a member of a fixed view takes leases")
	}
}

// Whoever is asked for a lease of an epoch that is not its own promises nothing.
func TestNoPromiseForAnotherEpoch(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	s.now += 1e6
	s.members[0].e.until.Store(s.now + int64(s.elastic.Lease)) // it may give more than it has given
	for _, m := range s.members[:2] {
		from := 1 - m.id
		for _, epoch := range []uint32{0, m.e.serving.Load() + 1} {
			_, before := m.e.Lease(from)
			m.e.leaseAsked(from, epoch, s.now)
			if _, after := m.e.Lease(from); after != before {
				t.Errorf("%s, in epoch %d, promises something for epoch %d", m.name, m.e.serving.Load(), epoch)
			}
		}
		if m.id != 0 {
			continue
		}
		_, before := m.e.Lease(from)
		m.e.leaseAsked(from, m.e.serving.Load(), s.now)
		if _, after := m.e.Lease(from); after <= before {
			t.Error("P promises nothing for its own epoch either: the test shows nothing")
		}
	}
}

func TestElasticIsValidated(t *testing.T) {
	clock := func() int64 { return 1 }
	for want, c := range map[string]Elastic{
		"above zero":        {Patience: 1, Clock: clock},
		"a patience of 0s":  {Lease: 1, Clock: clock},
		"drift by -1":       {Lease: 1, Patience: 1, Drift: -1, Clock: clock},
		"drift by 600000":   {Lease: 1, Patience: 1, Drift: 600_000, Clock: clock},
		"leases need a clo": {Lease: 1, Patience: 1},
	} {
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}

// A P whose log has lost its end waits for somebody who would know more.
func TestACutLogNeedsAWitness(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	s.crash(s.members[0])
	s.crash(s.members[1]) // the mirror: besides P, the only one that holds all
	s.boot(0)
	p := s.members[0].e
	p.cfg.Cut = true
	s.pass(time.Second)
	if p.Status().Serving {
		t.Fatal("P leads a view with a follower alone")
	}
	s.boot(1)
	s.pass(time.Second)
	if st := p.Status(); !st.Serving || !st.Leased {
		t.Fatalf("P does not lead although the mirror is back: %+v", st)
	}
}

// Somebody else's change of the record gets into the way of a proposal: P goes on from what is there. Nonsense ends the service.
func TestRecordsThatPDidNotWrite(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	p := s.members[0].e
	swap := func(change func(*cluster.Record)) {
		v, _ := s.coord.Read(t.Context())
		change(&v.Record)
		if _, swapped, err := s.coord.Swap(t.Context(), v.Revision, v.Record); !swapped || err != nil {
			t.Fatal(err)
		}
	}
	swap(func(r *cluster.Record) { r.Epoch += 5 })
	s.crash(s.members[2])
	s.pass(time.Second)
	v, _ := s.coord.Read(t.Context())
	if !v.Active() || v.Epoch != 7 || p.log.Epoch() != 7 {
		t.Fatalf("P is in epoch %d, the record %+v", p.log.Epoch(), v)
	}
	swap(func(r *cluster.Record) { r.Members = append(r.Members, 99) })
	s.boot(2)
	s.pass(time.Second)
	if err := p.Status().Err; err == nil || !strings.Contains(err.Error(), "members [0 1 99]") {
		t.Fatalf("%v", err)
	}
}

// What a backup reads in the record it need not wait for.
func TestAnExpelledBackupThatIsToldStopsAtOnce(t *testing.T) {
	s := newLeasedRig(t, 3, FaultNone)
	b := s.members[2].e
	v, _ := s.coord.Read(t.Context())
	v.Revision, v.Epoch, v.Members = v.Revision+1, v.Epoch+1, []int{0, 1}
	b.Told(v)
	if st := b.Status(); st.Serving || st.Leased {
		t.Fatal("it goes on")
	}
	v.Revision--
	v.Members = []int{0, 1, 2}
	b.Told(v) // older, and late
	s.pass(time.Second)
	if st := b.Status(); !st.Serving || !st.Leased {
		t.Fatalf("P has not noticed that it does not serve: %+v", st)
	}
}
