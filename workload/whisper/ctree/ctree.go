// Package ctree is the crit-bit tree of the WHISPER suite, under a counted undo log: a transaction allocates a value of 128 bytes and inserts it.
//
// An inner node tells by one bit, the highest in which keys below it differ, on which side a key is; there are no nodes for bits in
// which they do not. So the way to a key is as long as there are such bits, and an insertion makes one node and changes one slot.
package ctree

import (
	"fmt"
	"math/bits"
	"time"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/workload"
	"whale/workload/whisper/app"
)

// Params are the tree's parameters. [Default] has those that Params leave zero.
type Params struct {
	Keys    int           // up to so many are inserted; then every other transaction removes one
	Prepare int           // so many are there at the start
	Value   int           // bytes
	Think   time.Duration // work besides a transaction
}

// Default is a tree of 4096 keys that grows to 16384, with values of 128 bytes.
func Default() Params {
	return Params{Keys: 16384, Prepare: 4096, Value: 128, Think: 200 * time.Nanosecond}
}

// The root object: a slot, and how many keys there are.
const (
	rootSlot  = 0
	rootCount = 16
	rootSize  = 24
)

// A slot is two words. Of a key, and the place of its value; of a node, 0 and the node's place plus 1; 0 and 0: nothing.
const (
	slotKey  = 0
	slotTo   = 8
	slotSize = 16
)

// A node: the bit, and two slots, for keys in which it is 0 and 1.
const (
	nodeBit   = 0
	nodeSlots = 8
	nodeSize  = nodeSlots + 2*slotSize
)

// A value: the salt from which, with the key, the bytes behind it follow.
const valueSalt = 8

// Tree implements workload.Workload.
type Tree struct{ p Params }

// New checks the parameters.
func New(p Params) (*Tree, error) {
	def := Default()
	if p.Keys == 0 {
		p.Keys = def.Keys
	}
	if p.Prepare == 0 {
		p.Prepare = min(def.Prepare, p.Keys)
	}
	if p.Value == 0 {
		p.Value = def.Value
	}
	if p.Think == 0 {
		p.Think = def.Think
	}
	if p.Keys < 1 || p.Keys > 1<<24 || p.Prepare < 0 || p.Prepare > p.Keys || p.Value < 16 || p.Value > 4<<10 || p.Think < 0 {
		return nil, fmt.Errorf("ctree: %+v: want 1 to 2^24 keys, not more to start with, values of 16 bytes to 4 KiB", p)
	}
	return &Tree{p}, nil
}

// Name implements workload.Workload.
func (w *Tree) Name() string { return "ctree" }

// Threads implements workload.Workload.
func (w *Tree) Threads() int { return 1 }

const (
	lanes   = 16
	logSize = 4 << 10
)

// Size implements workload.Workload.
func (w *Tree) Size() uint64 {
	return lanes*logSize + uint64(w.p.Keys)*(app.Room(w.p.Value)+app.Room(nodeSize)) + app.Sizes(3)
}

func (w *Tree) spec() app.Spec {
	return app.Spec{Name: w.Name(), Params: []uint64{uint64(w.p.Keys), uint64(w.p.Value)},
		Pool: ptx.Options{Log: ptx.Counted, Lanes: lanes, LogSize: logSize, Root: rootSize}}
}

// prepareSeed is of the keys that are there at the start.
const prepareSeed = 0x6374726565

// Prepare implements workload.Workload.
func (w *Tree) Prepare(r *mirror.Region) error {
	return w.spec().Create(r, func(d *app.Data) error {
		return w.program(d).Run(workload.NewThread(0, prepareSeed, app.Still{}), w.p.Prepare)
	})
}

// Open implements workload.Workload.
func (w *Tree) Open(r *mirror.Region) (workload.Program, error) {
	d, err := w.spec().Open(r)
	if err != nil {
		return nil, err
	}
	p := w.program(d)
	return p, p.Check()
}

func (w *Tree) program(d *app.Data) *program {
	return &program{Tree: w, Data: d, value: make([]byte, w.p.Value-valueSalt)}
}

// program is the tree on its data.
type program struct {
	*Tree
	*app.Data
	lock  app.Lock
	value []byte // of the transaction under way
}

// Run implements workload.Program.
func (p *program) Run(t *workload.Thread, n int) error {
	for range n {
		t.Compute(p.p.Think)
		if err := p.step(t); err != nil {
			return err
		}
	}
	return nil
}

// step inserts a key that is not there, or removes one if there are enough.
func (p *program) step(t *workload.Thread) error {
	p.lock.Lock(t, p.Data)
	defer p.lock.Unlock()
	remove := p.Region.Load64(p.Root+rootCount) >= uint64(p.p.Keys)
	for {
		key := t.Rand.Uint64()
		path := p.find(key)
		p.Visit(t, path.steps)
		switch near := p.Region.Load64(path.slot + slotKey); {
		case remove: // what is near a random key is as good as any
			return p.Do(func(tx *ptx.Tx) error { return p.remove(tx, path) })
		case path.empty || near != key:
			salt := t.Rand.Uint64()
			return p.Do(func(tx *ptx.Tx) error { return p.insert(tx, key, salt, near, path.empty) })
		}
	}
}

// path is the way to the key that is nearest.
type path struct {
	slot  uint64 // place of its slot
	node  uint64 // that the slot is in; 0: it is the root's
	above uint64 // place of the node's slot
	empty bool   // there is no key at all
	steps int
}

func (p *program) find(key uint64) path {
	at := path{slot: p.Root + rootSlot, steps: 1}
	for {
		to := p.Region.Load64(at.slot + slotTo)
		if to&1 == 0 {
			at.empty = to == 0
			return at
		}
		at.node, at.above = to-1, at.slot
		at.slot = p.side(at.node, key)
		at.steps++
	}
}

// side is the slot of a node for a key.
func (p *program) side(node, key uint64) uint64 {
	return node + nodeSlots + slotSize*(key>>p.Region.Load64(node+nodeBit)&1)
}

func (p *program) insert(tx *ptx.Tx, key, salt, near uint64, empty bool) error {
	value, err := tx.Alloc(uint64(p.p.Value))
	if err != nil {
		return err
	}
	tx.Store64(value, salt)
	app.Fill(p.value, key^salt)
	tx.Write(value+valueSalt, p.value)
	slot := p.Root + rootSlot
	if !empty {
		bit := uint64(bits.Len64(key^near) - 1)
		for to := p.Region.Load64(slot + slotTo); to&1 == 1 && p.Region.Load64(to-1+nodeBit) > bit; to = p.Region.Load64(slot + slotTo) {
			slot = p.side(to-1, key)
		}
		node, err := tx.Alloc(nodeSize)
		if err != nil {
			return err
		}
		tx.Store64(node+nodeBit, bit)
		mine := node + nodeSlots + slotSize*(key>>bit&1)
		other := node + nodeSlots + slotSize*(1-key>>bit&1)
		set(tx, other, tx.Load64(slot+slotKey), tx.Load64(slot+slotTo))
		set(tx, mine, key, value)
		tx.Add(slot, slotSize)
		set(tx, slot, 0, node+1)
	} else {
		tx.Add(slot, slotSize)
		set(tx, slot, key, value)
	}
	tx.Store64(p.Root+rootCount, tx.Load64(p.Root+rootCount)+1)
	return nil
}

func set(tx *ptx.Tx, slot, key, to uint64) {
	tx.Store64(slot+slotKey, key)
	tx.Store64(slot+slotTo, to)
}

// remove takes the key at the end of the path out, and with it the node that its slot is in.
func (p *program) remove(tx *ptx.Tx, at path) error {
	value := tx.Load64(at.slot + slotTo)
	if at.node == 0 {
		tx.Add(at.slot, slotSize)
		set(tx, at.slot, 0, 0)
	} else {
		sibling := 2*(at.node+nodeSlots) + slotSize - at.slot
		tx.Add(at.above, slotSize)
		set(tx, at.above, tx.Load64(sibling+slotKey), tx.Load64(sibling+slotTo))
		if err := tx.Free(at.node); err != nil {
			return err
		}
	}
	tx.Store64(p.Root+rootCount, tx.Load64(p.Root+rootCount)-1)
	return tx.Free(value)
}

// Check implements workload.Program.
func (p *program) Check() error {
	var used []uint64
	count := uint64(0)
	err := p.walk(p.Root+rootSlot, 64, 0, 0, func(key, to uint64) error {
		used = append(used, to&^1)
		if to&1 == 1 {
			return nil
		}
		count++
		value, err := p.Bytes(to, uint64(p.p.Value))
		if err != nil {
			return err
		}
		if salt := p.Region.Load64(to); !app.Filled(value[valueSalt:], key^salt) {
			return fmt.Errorf("%w: the value at %d is not that of key %#x", app.ErrDamaged, to, key)
		}
		return nil
	})
	switch has := p.Region.Load64(p.Root + rootCount); {
	case err != nil:
		return fmt.Errorf("ctree: %w", err)
	case count != has:
		return fmt.Errorf("ctree: %w: %d keys, and %d are counted", app.ErrDamaged, count, has)
	}
	if err := p.Owned(used); err != nil {
		return fmt.Errorf("ctree: %w", err)
	}
	return nil
}

// walk calls f for what slots refer to, and trusts nothing: bits become smaller on the way down, and in those that decided, all keys
// are like prefix.
func (p *program) walk(slot, below, mask, prefix uint64, f func(key, to uint64) error) error {
	key, err := p.Word(slot + slotKey)
	if err != nil {
		return err
	}
	to, err := p.Word(slot + slotTo)
	switch {
	case err != nil:
		return err
	case to == 0 && below == 64 && key == 0:
		return nil // an empty tree
	case to&1 == 0 && to%8 != 0 || to == 0:
		return fmt.Errorf("%w: the slot at %d refers to %d", app.ErrDamaged, slot, to)
	case to&1 == 0:
		if key&mask != prefix {
			return fmt.Errorf("%w: key %#x is where keys are that have %#x in the bits %#x", app.ErrDamaged, key, prefix, mask)
		}
		return f(key, to)
	case key != 0:
		return fmt.Errorf("%w: the slot at %d refers to a node, and has key %#x", app.ErrDamaged, slot, key)
	}
	node := to - 1
	if _, err := p.Bytes(node, nodeSize); err != nil {
		return err
	}
	bit, err := p.Word(node + nodeBit)
	if err != nil || bit >= below {
		return fmt.Errorf("%w: the node at %d decides by bit %d, and is below bit %d (%v)", app.ErrDamaged, node, bit, below, err)
	}
	if err := f(0, to); err != nil {
		return err
	}
	for side := range uint64(2) {
		if err := p.walk(node+nodeSlots+side*slotSize, bit, mask|1<<bit, prefix|side<<bit, f); err != nil {
			return err
		}
	}
	return nil
}

// Content implements app.Program.
func (p *program) Content() uint64 {
	var sum app.Sum
	p.walk(p.Root+rootSlot, 64, 0, 0, func(key, to uint64) error {
		if to&1 == 0 {
			sum.Add(key, p.Region.Bytes()[to:to+uint64(p.p.Value)])
		}
		return nil
	})
	return uint64(sum)
}
