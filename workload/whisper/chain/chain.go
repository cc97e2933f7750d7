// Package chain is a hash table in persistent memory with chained entries: a block of words, a bucket each, which hold the place
// of their first entry or 0. An entry is a block of its user's that begins with two words of the table's.
package chain

import (
	"fmt"

	"whale/mirror/ptx"
	"whale/workload/whisper/app"
)

// The words of an entry that are the table's. A user's begin at Own.
const (
	next = 0 // place of the next entry of the bucket, or 0
	hash = 8 // of the key
	Own  = 16
)

// Table is a table's place and size. The zero value is none.
type Table struct {
	At      uint64 // place of the buckets
	Buckets uint64 // a power of two
}

// Words is what can be read: a transaction, or a region when nobody writes to the table.
type Words interface{ Load64(off uint64) uint64 }

// Make allocates an empty table.
func Make(tx *ptx.Tx, buckets uint64) (Table, error) {
	at, err := tx.Alloc(8 * buckets)
	if err != nil {
		return Table{}, err
	}
	tx.Write(at, make([]byte, 8*buckets))
	return Table{at, buckets}, nil
}

func (t Table) bucket(h uint64) uint64 { return t.At + 8*(h&(t.Buckets-1)) }

// Find looks for an entry with that hash which same accepts (nil: the hash decides). link is the place of the word that refers to it;
// steps is how many entries were looked at. 0: there is none.
func (t Table) Find(m Words, h uint64, same func(entry uint64) bool) (entry, link uint64, steps int) {
	link = t.bucket(h)
	for entry = m.Load64(link); entry != 0; entry = m.Load64(link) {
		if steps++; m.Load64(entry+hash) == h && (same == nil || same(entry)) {
			return entry, link, steps
		}
		link = entry + next
	}
	return 0, 0, steps
}

// First is the first entry of the bucket with a number, and After the one behind an entry; 0: none.
func (t Table) First(m Words, bucket uint64) uint64 { return m.Load64(t.At + 8*(bucket&(t.Buckets-1))) }

// After is the entry behind one.
func After(m Words, entry uint64) uint64 { return m.Load64(entry + next) }

// Hash is the hash of an entry.
func Hash(m Words, entry uint64) uint64 { return m.Load64(entry + hash) }

// Push puts an entry at the front of its bucket.
func (t Table) Push(tx *ptx.Tx, entry, h uint64) {
	b := t.bucket(h)
	tx.Store64(entry+next, tx.Load64(b))
	tx.Store64(entry+hash, h)
	tx.Store64(b, entry)
}

// Remove takes an entry out. link is Find's.
func Remove(tx *ptx.Tx, entry, link uint64) { tx.Store64(link, tx.Load64(entry+next)) }

// Grow moves all entries to a new table, and frees the old one: a transaction that writes to each entry.
func (t Table) Grow(tx *ptx.Tx, buckets uint64) (Table, error) {
	bigger, err := Make(tx, buckets)
	if err != nil {
		return Table{}, err
	}
	for i := range t.Buckets {
		for entry := t.First(tx, i); entry != 0; {
			after := After(tx, entry)
			b := bigger.bucket(tx.Load64(entry + hash))
			tx.Store64(entry+next, tx.Load64(b))
			tx.Store64(b, entry)
			entry = after
		}
	}
	return bigger, tx.Free(t.At)
}

// Walk calls f for every entry, in the order of buckets, and says what is wrong with the table: it trusts nothing. size is how many bytes an
// entry has at least. No transaction may be under way.
func (t Table) Walk(d *app.Data, size uint64, f func(entry uint64) error) error {
	if t.Buckets == 0 || t.Buckets&(t.Buckets-1) != 0 || t.Buckets > d.Region.Size()/8 {
		return fmt.Errorf("%w: a table of %d buckets, want a power of two", app.ErrDamaged, t.Buckets)
	}
	left := d.Region.Size() / Own // more entries than fit are a ring
	for i := range t.Buckets {
		entry, err := d.Word(t.At + 8*i)
		for ; entry != 0 && err == nil; entry, err = d.Word(entry + next) {
			if _, err := d.Bytes(entry, max(size, Own)); err != nil {
				return fmt.Errorf("an entry of bucket %d: %w", i, err)
			}
			h, err := d.Word(entry + hash)
			switch {
			case err != nil:
				return fmt.Errorf("an entry of bucket %d: %w", i, err)
			case h&(t.Buckets-1) != i:
				return fmt.Errorf("%w: the entry at %d has hash %#x and is in bucket %d of %d", app.ErrDamaged, entry, h, i, t.Buckets)
			case left == 0:
				return fmt.Errorf("%w: the entries of bucket %d never end", app.ErrDamaged, i)
			}
			left--
			if err := f(entry); err != nil {
				return err
			}
		}
		if err != nil {
			return fmt.Errorf("bucket %d: %w", i, err)
		}
	}
	return nil
}
