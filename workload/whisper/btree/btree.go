// Package btree is an ordered index in a transactional memory: words found by words.
//
// It is a B+tree for memory in which a write is dear (Chen and Jin, Persistent B+-Trees in Non-Volatile Main Memory, PVLDB 2015): the
// entries of a leaf are in no order, so that an insertion writes one entry and one word, and moves nothing. Nodes that become
// empty are freed; others are never merged.
package btree

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"whale/workload/whisper/tm"
)

// A node, in a block of its own:
//
//	0    entries 4, height 4    height 0: a leaf
//	8    leftmost child         of an inner node: of keys below the first entry's
//	16   entries of key 8, value 8
//
// An inner node's entries are in order; the value is the child of keys from the entry's on.
const (
	nodeSize = 256
	entryOff = 16
	capacity = (nodeSize - entryOff) / 16
)

// Tree is the tree whose root's place is in the word at Root; 0 there: it is empty.
type Tree struct{ Root uint64 }

var (
	// ErrExists is the error of inserting a key that is there.
	ErrExists = errors.New("btree: the key is there already")
	// ErrDamaged is wrapped by what Check finds.
	ErrDamaged = errors.New("btree: the tree is damaged")
)

type entry struct{ key, value uint64 }

func compare(a, b entry) int { return cmp.Compare(a.key, b.key) }

func header(count, height int) uint64 { return uint64(count) | uint64(height)<<32 }

func load(tx *tm.Tx, node uint64) (count, height int) {
	h := tx.Load64(node)
	return min(int(uint32(h)), capacity), int(h >> 32)
}

func entryAt(tx *tm.Tx, node uint64, i int) entry {
	at := node + entryOff + 16*uint64(i)
	return entry{tx.Load64(at), tx.Load64(at + 8)}
}

func encode(b []byte, all []entry) []byte {
	for _, e := range all {
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, e.key), e.value)
	}
	return b
}

// entries are all of a node's.
func entries(tx *tm.Tx, node uint64, count int) []entry {
	all := make([]entry, count, capacity+1)
	for i := range all {
		all[i] = entryAt(tx, node, i)
	}
	return all
}

// put writes entries from the i-th on.
func put(tx *tm.Tx, node uint64, i int, all ...entry) {
	var b [16 * capacity]byte
	tx.Write(node+entryOff+16*uint64(i), encode(b[:0], all))
}

// build makes a node.
func build(tx *tm.Tx, height int, leftmost uint64, all []entry) (uint64, error) {
	node, err := tx.Alloc(nodeSize)
	if err != nil {
		return 0, err
	}
	var b [nodeSize]byte
	h := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b[:0], header(len(all), height)), leftmost)
	tx.Write(node, encode(h, all))
	return node, nil
}

// childFor is which child of an inner node a key belongs to: -1 is the leftmost.
func childFor(tx *tm.Tx, node uint64, count int, key uint64) int {
	low, high := 0, count
	for low < high {
		if mid := (low + high) / 2; tx.Load64(node+entryOff+16*uint64(mid)) <= key {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

func child(tx *tm.Tx, node uint64, i int) uint64 {
	if i < 0 {
		return tx.Load64(node + 8)
	}
	return tx.Load64(node + entryOff + 16*uint64(i) + 8)
}

// inLeaf is where a leaf has a key; -1: it has not.
func inLeaf(tx *tm.Tx, leaf uint64, count int, key uint64) int {
	for i := range count {
		if tx.Load64(leaf+entryOff+16*uint64(i)) == key {
			return i
		}
	}
	return -1
}

// Get is the value of a key.
func (t Tree) Get(tx *tm.Tx, key uint64) (value uint64, ok bool) {
	node := tx.Load64(t.Root)
	for node != 0 {
		count, height := load(tx, node)
		if height == 0 {
			i := inLeaf(tx, node, count, key)
			if i < 0 {
				return 0, false
			}
			return entryAt(tx, node, i).value, true
		}
		node = child(tx, node, childFor(tx, node, count, key))
	}
	return 0, false
}

// Insert adds a key, which is not there (else ErrExists). Other errors: those of tm.Tx.Alloc.
func (t Tree) Insert(tx *tm.Tx, key, value uint64) error {
	root := tx.Load64(t.Root)
	if root == 0 {
		node, err := build(tx, 0, 0, []entry{{key, value}})
		if err == nil {
			tx.Store64(t.Root, node)
		}
		return err
	}
	more, err := insert(tx, root, entry{key, value})
	if err != nil || more.value == 0 {
		return err
	}
	_, height := load(tx, root)
	node, err := build(tx, height+1, root, []entry{more})
	if err == nil {
		tx.Store64(t.Root, node)
	}
	return err
}

// insert adds an entry below a node. more, unless zero, is a new sibling to its right and the least key that belongs there.
func insert(tx *tm.Tx, node uint64, e entry) (more entry, err error) {
	count, height := load(tx, node)
	if height == 0 {
		if inLeaf(tx, node, count, e.key) >= 0 {
			return entry{}, ErrExists
		}
		if count < capacity {
			put(tx, node, count, e)
			tx.Store64(node, header(count+1, 0))
			return entry{}, nil
		}
		all := append(entries(tx, node, count), e)
		slices.SortFunc(all, compare)
		half := len(all) / 2
		right, err := build(tx, 0, 0, all[half:])
		if err != nil {
			return entry{}, err
		}
		put(tx, node, 0, all[:half]...)
		tx.Store64(node, header(half, 0))
		return entry{all[half].key, right}, nil
	}
	at := childFor(tx, node, count, e.key)
	e, err = insert(tx, child(tx, node, at), e)
	if err != nil || e.value == 0 {
		return entry{}, err
	}
	at++
	all := slices.Insert(entries(tx, node, count), at, e)
	if count < capacity {
		put(tx, node, at, all[at:]...)
		tx.Store64(node, header(count+1, height))
		return entry{}, nil
	}
	half := len(all) / 2
	right, err := build(tx, height, all[half].value, all[half+1:])
	if err != nil {
		return entry{}, err
	}
	if at < half {
		put(tx, node, at, all[at:half]...)
	}
	tx.Store64(node, header(half, height))
	return entry{all[half].key, right}, nil
}

// Set changes the value of a key and says whether it is there.
func (t Tree) Set(tx *tm.Tx, key, value uint64) bool {
	node := tx.Load64(t.Root)
	for node != 0 {
		count, height := load(tx, node)
		if height == 0 {
			i := inLeaf(tx, node, count, key)
			if i >= 0 {
				tx.Store64(node+entryOff+16*uint64(i)+8, value)
			}
			return i >= 0
		}
		node = child(tx, node, childFor(tx, node, count, key))
	}
	return false
}

// Delete takes a key away and says what its value was.
func (t Tree) Delete(tx *tm.Tx, key uint64) (value uint64, ok bool, err error) {
	root := tx.Load64(t.Root)
	if root == 0 {
		return 0, false, nil
	}
	value, ok, gone, err := remove(tx, root, key)
	if gone && err == nil {
		tx.Store64(t.Root, 0)
	}
	return value, ok, err
}

// remove takes a key away below a node. gone: the node became empty, and is free.
func remove(tx *tm.Tx, node, key uint64) (value uint64, ok, gone bool, err error) {
	count, height := load(tx, node)
	if height == 0 {
		i := inLeaf(tx, node, count, key)
		if i < 0 {
			return 0, false, false, nil
		}
		value = entryAt(tx, node, i).value
		if count == 1 {
			return value, true, true, tx.Free(node)
		}
		if i < count-1 {
			put(tx, node, i, entryAt(tx, node, count-1))
		}
		tx.Store64(node, header(count-1, 0))
		return value, true, false, nil
	}
	at := childFor(tx, node, count, key)
	value, ok, gone, err = remove(tx, child(tx, node, at), key)
	switch {
	case err != nil || !gone:
		return value, ok, false, err
	case count == 0:
		return value, ok, true, tx.Free(node)
	}
	all := entries(tx, node, count)
	if at < 0 { // the first entry's child becomes the leftmost
		tx.Store64(node+8, all[0].value)
		at = 0
	}
	if at < count-1 {
		put(tx, node, at, all[at+1:]...)
	}
	tx.Store64(node, header(count-1, height))
	return value, ok, false, nil
}

// Scan calls f with the entries from key from to key to, both included, in order, until it returns false. f may not change the tree.
func (t Tree) Scan(tx *tm.Tx, from, to uint64, f func(key, value uint64) bool) {
	if root := tx.Load64(t.Root); root != 0 && from <= to {
		scan(tx, root, from, to, f)
	}
}

func scan(tx *tm.Tx, node, from, to uint64, f func(key, value uint64) bool) bool {
	count, height := load(tx, node)
	if height == 0 {
		all := entries(tx, node, count)
		slices.SortFunc(all, compare)
		for _, e := range all {
			if e.key >= from && e.key <= to && !f(e.key, e.value) {
				return false
			}
		}
		return true
	}
	for i := childFor(tx, node, count, from); i < count; i++ {
		if i >= 0 && entryAt(tx, node, i).key > to {
			return true
		}
		if !scan(tx, child(tx, node, i), from, to, f) {
			return false
		}
	}
	return true
}

// First is the entry with the least key from from to to.
func (t Tree) First(tx *tm.Tx, from, to uint64) (key, value uint64, ok bool) {
	t.Scan(tx, from, to, func(k, v uint64) bool {
		key, value, ok = k, v, true
		return false
	})
	return key, value, ok
}

// Last is the entry with the greatest key from from to to.
func (t Tree) Last(tx *tm.Tx, from, to uint64) (key, value uint64, ok bool) {
	if root := tx.Load64(t.Root); root != 0 && from <= to {
		e, found := last(tx, root, from, to)
		return e.key, e.value, found
	}
	return 0, 0, false
}

func last(tx *tm.Tx, node, from, to uint64) (best entry, ok bool) {
	count, height := load(tx, node)
	if height == 0 {
		for i := range count {
			if e := entryAt(tx, node, i); e.key >= from && e.key <= to && (!ok || e.key > best.key) {
				best, ok = e, true
			}
		}
		return best, ok
	}
	for i := childFor(tx, node, count, to); i >= -1; i-- {
		if best, ok = last(tx, child(tx, node, i), from, to); ok {
			return best, true
		}
		if i >= 0 && entryAt(tx, node, i).key <= from { // what is further left is below from
			return best, false
		}
	}
	return best, false
}

// Check says what is wrong with the tree, and calls visit with the places of its nodes. size is that of the region: no
// place is trusted. For looks.
func (t Tree) Check(tx *tm.Tx, size uint64, visit func(node uint64)) error {
	root := tx.Load64(t.Root)
	if root == 0 {
		return nil
	}
	return check(tx, size, root, -1, entry{0, ^uint64(0)}, visit)
}

// maxHeight is that of a tree of more entries than a region has bytes.
const maxHeight = 64

// check checks a node whose keys must be from bounds.key to bounds.value. height -1: it is the root.
func check(tx *tm.Tx, size, node uint64, height int, bounds entry, visit func(uint64)) error {
	if node == 0 || node%64 != 0 || node > size || size-node < nodeSize {
		return fmt.Errorf("%w: there is no room for a node at %d", ErrDamaged, node)
	}
	h := tx.Load64(node)
	count, own := int(uint32(h)), int(h>>32)
	if count > capacity || own > maxHeight || height >= 0 && own != height || own == 0 && count == 0 {
		return fmt.Errorf("%w: the node at %d has %d entries and height %d, want height %d", ErrDamaged, node, count, own, height)
	}
	visit(node)
	all := entries(tx, node, count)
	if own == 0 {
		slices.SortFunc(all, compare)
	}
	for i, e := range all {
		if e.key < bounds.key || e.key > bounds.value || i > 0 && e.key <= all[i-1].key {
			return fmt.Errorf("%w: key %#x does not belong into the node at %d", ErrDamaged, e.key, node)
		}
	}
	if own == 0 {
		return nil
	}
	for i := -1; i < count; i++ {
		in := bounds
		if i >= 0 {
			in.key = all[i].key
		}
		if i+1 < count {
			in.value = all[i+1].key - 1
		}
		if err := check(tx, size, child(tx, node, i), own-1, in, visit); err != nil {
			return err
		}
	}
	return nil
}
