package shard

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/internal/cluster"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
	"whale/internal/resp"
	"whale/internal/store"
	"whale/pmem"
)

// rig is a cluster of engines in one goroutine, on whatever fabric.
type rig struct {
	t          testing.TB
	members    []*member
	geo        plog.Geometry
	now        int64
	fault      whale.Fault
	chain      bool // the protocol is chain, not whale
	chainFault chain.Fault
	policy     replication.Policy
	mirrors    int
	events     io.Writer
	wall       [8]int64 // the members' wall clocks, unix ms

	elastic Elastic // without a lease: the view is fixed
	coord   cluster.Memory
	deaf    bool // the coordinator hears nothing
	mute    bool // and it does, but its answers are lost
}

type member struct {
	id   int
	name string
	mem  pmem.Memory
	ep   fabric.Endpoint
	log  *plog.Log
	st   *store.Store
	e    *Engine
}

var smallGeometry = plog.Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 16}

func memberName(i int) string {
	if i == 0 {
		return "P"
	}
	return fmt.Sprintf("B%d", i)
}

// start makes the member's engine from what is in its memory.
func (r *rig) start(m *member) error {
	role := store.Replica
	if m.id == 0 {
		role = store.Primary
	}
	log, err := plog.Open(m.mem, m.name, plog.Identity{Member: uint32(m.id)})
	if err != nil {
		return err
	}
	m.log, m.st = log, store.New(log, role)
	if _, err := m.st.Rebuild(); err != nil {
		return err
	}
	var core replication.Core
	if r.chain {
		c := chain.New(log.Geometry())
		c.Break(r.chainFault)
		core = c
	} else {
		c := whale.New(log.Geometry())
		c.Break(r.fault)
		core = c
	}
	var names []string
	for _, o := range r.members {
		names = append(names, o.name)
	}
	var elastic *Elastic
	if r.elastic.Lease > 0 {
		c := r.elastic
		c.Clock = func() int64 { return r.now }
		elastic = &c
	}
	m.e, err = New(Config{
		Elastic: elastic, Incarnation: 7,
		Self: m.id, Members: names, Policy: r.policy, Mirrors: r.mirrors, CommandTimeout: time.Second, QueueLimit: 1 << 16,
		Buffers: pmem.Heap(BufferSize(len(names))), Server: testServer{wall: &r.wall[m.id]}, Core: core,
		Event: func(text string) {
			if r.events != nil {
				fmt.Fprintf(r.events, "%s: %s\n", m.name, text)
			}
		},
	}, m.st, m.log, m.ep)
	return err
}

// step lets all members run until nothing moves; it says whether anything did.
func (r *rig) step() bool {
	moved := false
	for again := true; again; {
		again = false
		r.now += 1000
		for _, m := range r.members {
			if m.e != nil && m.e.Step(r.now) {
				again, moved = true, true
			}
			if m.e != nil && r.decide(m) {
				again, moved = true, true
			}
		}
	}
	return moved
}

// decide carries out what a member proposes, if the coordinator answers.
func (r *rig) decide(m *member) bool {
	p, ok := m.e.Proposal()
	if !ok {
		return false
	}
	out := cluster.Outcome{ID: p.ID, Err: cluster.ErrUnknown}
	if !r.deaf {
		if did := p.Carry(context.Background(), &r.coord); !r.mute {
			out = did
		}
	}
	m.e.Decided(out)
	return true
}

// request is a command with its own owner.
type request struct {
	Request
	done  bool
	watch *command.Watch
}

func (q *request) Executed(*Request)  {}
func (q *request) Completed(*Request) { q.done = true }

func newRequest(client *command.Client, args ...string) *request {
	q := &request{}
	for _, a := range args {
		q.Args = append(q.Args, []byte(a))
	}
	q.Cmd = command.Lookup(q.Args[0]).Resolve(q.Args)
	q.Client = client
	q.W = resp.Writer{Proto: 2}
	q.Owner = q
	return q
}

// issue starts a command as a connection would: a read of one key at once if that is possible.
func (r *rig) issue(m *member, q *request) *request {
	if m.e.TryRun(&q.Request) {
		q.done = true
		return q
	}
	m.e.Submit(&q.Request)
	return q
}

// testServer is a node of which commands only ask the time.
type testServer struct {
	command.Server
	wall *int64
}

func (s testServer) Now() int64     { return *s.wall }
func (testServer) RoleName() string { return "master" }

// newShmRig is a cluster on shared memory, formed and serving.
func newShmRig(t testing.TB, n int, geo plog.Geometry, dir string) *rig {
	r := &rig{t: t, geo: geo, now: 1, mirrors: 1}
	for i := range n {
		sub := filepath.Join(dir, memberName(i))
		ep, err := shm.Open(sub, shm.Options{Secret: []byte("0123456789abcdef0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		mem, err := pmem.Map(filepath.Join(sub, "shard-0"), geo.Size(), pmem.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := plog.Format(mem, geo, plog.Identity{Member: uint32(i)}); err != nil {
			t.Fatal(err)
		}
		r.members = append(r.members, &member{id: i, name: memberName(i), mem: mem, ep: ep})
		t.Cleanup(func() { ep.Close() })
	}
	for _, m := range r.members {
		if err := r.start(m); err != nil {
			t.Fatal(err)
		}
	}
	for hi := range n {
		for lo := range hi {
			a, b := r.members[hi], r.members[lo]
			accepted := make(chan fabric.Conn, 1)
			go func() {
				c, err := b.ep.Accept(context.Background(), func([]byte) ([]byte, error) { return nil, nil })
				if err != nil {
					t.Error(err)
				}
				accepted <- c
			}()
			c, _, err := a.ep.Dial(context.Background(), b.ep.Addr(), nil)
			if err != nil {
				t.Fatal(err)
			}
			a.e.Connected(b.id, c)
			b.e.Connected(a.id, <-accepted)
		}
	}
	r.untilServing()
	return r
}

func (r *rig) untilServing() {
	for range 100 {
		r.step()
		serving := 0
		for _, m := range r.members {
			if st := m.e.Status(); st.Serving && st.Leased {
				serving++
			}
		}
		if serving == len(r.members) {
			return
		}
	}
	for _, m := range r.members {
		r.t.Logf("%s: %+v", m.name, m.e.Status())
	}
	r.t.Fatal("the cluster does not serve")
}
