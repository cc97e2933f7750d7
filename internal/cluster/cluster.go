// Package cluster is what decides who is a member of a shard: the view record, and the coordinator that keeps it.
//
// A coordinator is asked only to decide. Members find out by themselves, over the fabric, who is well; a shard whose
// members stay as they are does without it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Record is the view record of a shard: who its members are, agreed on by compare-and-swap on the whole of it.
type Record struct {
	Epoch   uint32
	Members []int     // by number; the first is the primary, the order is the chain
	InSync  []Replica // E: those who hold every committed record durably
	// Activated is the newest epoch whose view became active: Epoch itself, once this one is.
	Activated uint32
}

// Replica is one run of a member's process.
type Replica struct {
	ID          int
	Incarnation uint64
}

// Active tells whether members may serve in the record's own view.
func (r *Record) Active() bool { return r.Epoch != 0 && r.Activated == r.Epoch }

// Primary is the member that leads the view.
func (r *Record) Primary() int { return r.Members[0] }

// Has tells whether somebody is a member of the view.
func (r *Record) Has(member int) bool { return slices.Contains(r.Members, member) }

// Clone is a copy that shares no memory with r.
func (r *Record) Clone() Record {
	c := *r
	c.Members, c.InSync = slices.Clone(r.Members), slices.Clone(r.InSync)
	return c
}

// Validate names what is wrong with a record of a shard that has so many members at most. It comes from outside.
func (r *Record) Validate(members int) error {
	known := func(id int) bool { return id >= 0 && id < members }
	switch {
	case r.Epoch == 0 || r.Activated > r.Epoch:
		return fmt.Errorf("cluster: a view record of epoch %d whose last active epoch is %d", r.Epoch, r.Activated)
	case len(r.Members) == 0:
		return errors.New("cluster: a view record without members")
	}
	for i, id := range r.Members {
		if !known(id) || slices.Contains(r.Members[:i], id) {
			return fmt.Errorf("cluster: a view record with the members %v: they are numbers from 0 to %d, each at most once", r.Members, members-1)
		}
	}
	for _, m := range r.InSync {
		if !known(m.ID) {
			return fmt.Errorf("cluster: a view record whose in-sync set has a member %d: they are numbers from 0 to %d", m.ID, members-1)
		}
	}
	return nil
}

// Versioned is a record as the coordinator had it at some moment. Revision tells two of them apart, and grows with each
// change; 0: there is no record yet.
type Versioned struct {
	Revision int64
	Record
}

// ErrUnknown is what becomes of a request that was not answered in time: it may have been carried out, or be carried out
// later still.
var ErrUnknown = errors.New("cluster: the coordinator did not answer")

// Coordinator keeps the view record of one shard. Any goroutine may call it. It has the semantics of an etcd key: Read is
// a linearizable Get, Swap a Txn that compares the key's ModRevision and puts the key if it is equal, else gets it. Every
// error of Read and Swap means ErrUnknown.
type Coordinator interface {
	Read(ctx context.Context) (Versioned, error)
	// Swap puts next in place of the record of that revision. False: the record is another one, which is returned.
	Swap(ctx context.Context, revision int64, next Record) (now Versioned, swapped bool, err error)
	// Watch tells changed of changes from now on, in their order, each soon or late; it may leave out all but the newest.
	// changed is called on a goroutine of the coordinator's and must not block or call it. stop ends it.
	Watch(changed func(Versioned)) (stop func())
}

// Proposal is what a member wants of the coordinator. Members do not wait: whoever drives one carries its proposals out,
// and hands back an Outcome for each, in any case, in bounded time.
type Proposal struct {
	ID       uint64 // the outcome has the same
	Swap     bool   // else Read
	Revision int64  // Swap
	Next     Record // Swap
}

// Outcome is what came of a proposal.
type Outcome struct {
	ID      uint64
	Now     Versioned // the record, if Err is nil
	Swapped bool
	Err     error // ErrUnknown, or one that wraps it
}

// Carry carries a proposal out.
func (p *Proposal) Carry(ctx context.Context, c Coordinator) Outcome {
	o := Outcome{ID: p.ID}
	if p.Swap {
		o.Now, o.Swapped, o.Err = c.Swap(ctx, p.Revision, p.Next)
	} else {
		o.Now, o.Err = c.Read(ctx)
	}
	if o.Err != nil && !errors.Is(o.Err, ErrUnknown) {
		o.Err = fmt.Errorf("%w: %w", ErrUnknown, o.Err)
	}
	return o
}
