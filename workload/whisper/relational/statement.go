package relational

import (
	"encoding/binary"
	"fmt"
)

// Value is a field of a row: of a text column the text, else the integer.
type Value struct {
	Int  int64
	Text string
}

// Row is a field for each column.
type Row []Value

// Tuple is a row of a table, as a transaction sees it. It is valid until the transaction ends or the row is deleted.
type Tuple struct {
	t  *Table
	tx *Tx
	at uint64
}

// Primary is the primary key; the others are indexes, from 1 on, in the schema's order.
const Primary = 0

// Insert adds a row. btree.ErrExists: its key, or that of an index, is there already. Other errors: those of ptx.Tx.Alloc. After an
// error the transaction has to end with it.
func (t *Table) Insert(tx *Tx, key uint64, row Row) error {
	if len(row) != len(t.Columns) {
		panic(fmt.Sprintf("relational: a row of %d fields for %s, which has %d columns", len(row), t.Name, len(t.Columns)))
	}
	at, err := tx.Alloc(t.size)
	if err != nil {
		return err
	}
	b := make([]byte, t.size)
	binary.LittleEndian.PutUint64(b, key)
	for i := range row {
		if err := t.encode(tx, b, i, row[i]); err != nil {
			return err
		}
	}
	tx.Write(at, b)
	tuple := Tuple{t, tx, at}
	for i := range t.trees {
		if err := t.trees[i].Insert(tx, tuple.key(i), at); err != nil {
			return fmt.Errorf("%s, key %#x: %w", t.Name, key, err)
		}
	}
	return nil
}

// encode puts a field into a new row; long texts into blocks.
func (t *Table) encode(tx *Tx, b []byte, i int, v Value) error {
	c := &t.Columns[i]
	c.fits(v.Text)
	switch {
	case c.Max == 0:
		binary.LittleEndian.PutUint64(b[c.off:], uint64(v.Int))
	case c.Max <= inline:
		b[c.off] = byte(len(v.Text))
		copy(b[c.off+1:], v.Text)
	default:
		place, err := long(tx, v.Text)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(b[c.off:], place)
		binary.LittleEndian.PutUint64(b[c.off+8:], uint64(len(v.Text)))
	}
	return nil
}

func (c *Column) fits(text string) {
	if len(text) > c.Max {
		panic(fmt.Sprintf("relational: a text of %d bytes for column %s, which has up to %d", len(text), c.Name, c.Max))
	}
}

// long makes the block of a long text; an empty one has none.
func long(tx *Tx, text string) (place uint64, err error) {
	if text == "" {
		return 0, nil
	}
	if place, err = tx.Alloc(uint64(len(text))); err == nil {
		tx.Write(place, []byte(text))
	}
	return place, err
}

// key is the row's key in tree i.
func (u Tuple) key(i int) uint64 {
	if i == Primary {
		return u.tx.Load64(u.at)
	}
	return u.t.Indexes[i-1](u)
}

// Table is the row's table.
func (u Tuple) Table() *Table { return u.t }

// Key is the primary key.
func (u Tuple) Key() uint64 { return u.key(Primary) }

// Int is the field of a column of integers.
func (u Tuple) Int(column int) int64 { return int64(u.tx.Load64(u.at + u.t.Columns[column].off)) }

// Text is the field of a column of texts.
func (u Tuple) Text(column int) string {
	c := &u.t.Columns[column]
	if c.Max <= inline {
		var b [inline + 1]byte
		u.tx.Read(u.at+c.off, b[:c.Max+1])
		return string(b[1 : 1+min(int(b[0]), c.Max)])
	}
	b := make([]byte, min(u.tx.Load64(u.at+c.off+8), uint64(c.Max)))
	u.tx.Read(u.tx.Load64(u.at+c.off), b)
	return string(b)
}

// SetInt changes the field of a column of integers.
func (u Tuple) SetInt(column int, v int64) { u.tx.Store64(u.at+u.t.Columns[column].off, uint64(v)) }

// SetText changes the field of a column of texts.
func (u Tuple) SetText(column int, text string) error {
	c := &u.t.Columns[column]
	c.fits(text)
	at := u.at + c.off
	if c.Max <= inline {
		u.tx.Write(at, append([]byte{byte(len(text))}, text...))
		return nil
	}
	old := u.tx.Load64(at)
	place, err := long(u.tx, text)
	if err != nil {
		return err
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], place)
	binary.LittleEndian.PutUint64(b[8:], uint64(len(text)))
	if u.tx.Write(at, b[:]); old == 0 {
		return nil
	}
	return u.tx.Free(old)
}

// Get is the row with a primary key.
func (t *Table) Get(tx *Tx, key uint64) (Tuple, bool) {
	at, ok := t.trees[Primary].Get(tx, key)
	return Tuple{t, tx, at}, ok
}

// Must is Get of a row that is there, by what the program keeps true: else the error says that it is not.
func (t *Table) Must(tx *Tx, key uint64) (Tuple, error) {
	u, ok := t.Get(tx, key)
	if !ok {
		return u, fmt.Errorf("relational: %s has no row with key %#x", t.Name, key)
	}
	return u, nil
}

// Delete deletes a row.
func (t *Table) Delete(tx *Tx, u Tuple) error {
	for i := len(t.trees) - 1; i >= 0; i-- {
		if _, _, err := t.trees[i].Delete(tx, u.key(i)); err != nil {
			return err
		}
	}
	for i := range t.Columns {
		if c := &t.Columns[i]; c.Max > inline {
			if place := tx.Load64(u.at + c.off); place != 0 {
				if err := tx.Free(place); err != nil {
					return err
				}
			}
		}
	}
	return tx.Free(u.at)
}

// Scan calls f with the rows whose keys in an index are from from to to, both included, in order, until it returns false. f may change
// fields; it may neither insert nor delete.
func (t *Table) Scan(tx *Tx, index int, from, to uint64, f func(Tuple) bool) {
	t.trees[index].Scan(tx, from, to, func(_, at uint64) bool { return f(Tuple{t, tx, at}) })
}

// First is the row with the least key in an index from from to to.
func (t *Table) First(tx *Tx, index int, from, to uint64) (Tuple, bool) {
	_, at, ok := t.trees[index].First(tx, from, to)
	return Tuple{t, tx, at}, ok
}

// Last is the row with the greatest key in an index from from to to.
func (t *Table) Last(tx *Tx, index int, from, to uint64) (Tuple, bool) {
	_, at, ok := t.trees[index].Last(tx, from, to)
	return Tuple{t, tx, at}, ok
}
