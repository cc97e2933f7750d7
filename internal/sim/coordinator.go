package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"whale/internal/cluster"
	"whale/internal/shard"
)

// coordinator is what the members of an elastic cluster agree with on their views: somewhere on the network, and asked by
// each member's driver as one asks etcd.
type coordinator struct {
	cluster.Memory
	record cluster.Versioned // as it is
	active cluster.Record    // the newest that became active
	views  map[uint32][]int  // the members of each view ever proposed
	faults [3]int            // those that go on, by what they do
}

// What a fault of the coordinator does.
const (
	unreachable = iota // what is asked does not get there
	silent             // it does, and is carried out, and the answer is lost
	slow               // question and answer may take longer than anybody waits
)

// call is a question to the coordinator.
type call struct {
	m    *member
	runs uint64 // of the process that asks
	p    cluster.Proposal
	over bool // it has its outcome
}

const (
	answerTime = int64(500e3) // of the coordinator, each way, on average
	waitTime   = int64(20e6)  // for an answer
)

func (r *run) elastic(m *member) *shard.Elastic {
	if r.c.Lease == 0 {
		return nil
	}
	bound := r.f.Bound
	if bound == 0 {
		bound = r.f.Drift
	}
	return &shard.Elastic{
		Lease: time.Duration(r.c.Lease), Patience: time.Duration(r.c.Patience), Drift: bound,
		Clock: func() int64 { return m.clock.local(r.now) },
	}
}

func (r *run) newCoordinator() {
	c := &coordinator{views: map[uint32][]int{}}
	r.coord = c
	c.Watch(func(v cluster.Versioned) {
		c.record = v
		c.views[v.Epoch] = v.Members
		if v.Active() {
			c.active = v.Record
		}
		r.say(r.members[0], "the coordinator's record: %s", describe(&v.Record))
		for _, m := range r.members {
			if c.faults[unreachable] == 0 && m.alone == 0 {
				r.call(&call{m: m, runs: m.runs}, evTold, 1+r.rng.Int64N(10*answerTime), &v)
			}
		}
	})
}

func describe(v *cluster.Record) string {
	text := fmt.Sprintf("epoch %d of", v.Epoch)
	for _, id := range v.Members {
		text += " " + memberName(id)
	}
	if v.Active() {
		text += ", active"
	}
	return text
}

// event of a call, after a while.
func (r *run) call(c *call, kind eventKind, after int64, v *cluster.Versioned) {
	r.push(event{at: r.now + after, kind: kind, who: int16(c.m.id), about: &occasion{call: &callEvent{call: c, told: v}}})
}

type callEvent struct {
	*call
	told *cluster.Versioned
	out  cluster.Outcome
}

// ask carries a member's proposals to the coordinator.
func (r *run) ask(m *member) {
	p, ok := m.eng.Proposal()
	if !ok {
		return
	}
	c := &call{m: m, runs: m.runs, p: p}
	r.call(c, evGiveUp, waitTime, nil)
	if r.coord.faults[unreachable] == 0 && m.alone == 0 {
		r.call(c, evAsk, r.answering(), nil)
	}
}

// answering is how long a question or an answer takes.
func (r *run) answering() int64 {
	if r.coord.faults[slow] > 0 {
		return 1 + r.rng.Int64N(2*waitTime)
	}
	return 1 + r.rng.Int64N(2*answerTime)
}

// called lets an event of a call happen.
func (r *run) called(kind eventKind, e *callEvent) {
	switch kind {
	case evAsk:
		out := e.p.Carry(context.Background(), r.coord)
		if r.coord.faults[silent] == 0 && e.m.alone == 0 {
			r.push(event{at: r.now + r.answering(), kind: evAnswer, about: &occasion{call: &callEvent{call: e.call, out: out}}})
		}
	case evAnswer:
		r.decided(e.call, e.out)
	case evGiveUp:
		if !e.over {
			r.say(e.m, "the coordinator does not answer")
		}
		r.decided(e.call, cluster.Outcome{ID: e.p.ID, Err: cluster.ErrUnknown})
	case evTold:
		if e.m.eng != nil && e.m.runs == e.runs {
			e.m.inbox = append(e.m.inbox, mail{told: e.told})
			r.wake(e.m, r.now+1)
		}
	}
}

func (r *run) decided(c *call, out cluster.Outcome) {
	if c.over || c.m.eng == nil || c.m.runs != c.runs {
		return
	}
	c.over = true
	c.m.inbox = append(c.m.inbox, mail{decided: &out})
	r.wake(c.m, r.now+1)
}

// strikeCoordinator lets one of its faults begin (by 1) or end (by -1).
func (r *run) strikeCoordinator(e *Fault, by int) {
	what := rand.New(rand.NewPCG(e.Seed, 2)).IntN(len(r.coord.faults))
	r.coord.faults[what] += by
	if by > 0 {
		r.say(r.members[0], "the coordinator %s", [...]string{"cannot be reached", "gives no answers", "is slow"}[what])
	} else {
		r.say(r.members[0], "the coordinator is well again")
	}
}

// drawElastic lets a third of the seeds have views that change their members.
func drawElastic(rng *rand.Rand, c *Cluster) {
	if rng.IntN(3) == 0 {
		c.Lease = Duration(8e6 << rng.IntN(3))
		c.Patience = Duration(2e6 << rng.IntN(3))
	}
}

// clusterOf is what a seed simulates, unless it is told.
func clusterOf(seed uint64) *Cluster {
	c := drawCluster(stream(seed, 2))
	drawElastic(stream(seed, 6), c)
	return c
}
