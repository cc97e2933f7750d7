package relational

import (
	"encoding/binary"
	"fmt"

	"whale/workload/whisper/app"
)

// Check says what is wrong with the database: trees whose keys are not in order or lead nowhere, texts that are too long or
// lie outside, indexes that have not just the rows of their table, blocks that belong to nobody or to two. For looks.
func (db *DB) Check(tx *Tx) error {
	var blocks []uint64
	for _, t := range db.tables {
		own, err := t.check(tx)
		if err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
		blocks = append(blocks, own...)
	}
	return db.data.Owned(blocks)
}

// check checks a table and lists its blocks.
func (t *Table) check(tx *Tx) (blocks []uint64, err error) {
	for i, tree := range t.trees {
		if err := tree.Check(tx, t.db.data.Region.Size(), func(node uint64) { blocks = append(blocks, node) }); err != nil {
			return nil, fmt.Errorf("index %d: %w", i, err)
		}
	}
	rows := map[uint64]bool{}
	t.trees[Primary].Scan(tx, 0, ^uint64(0), func(key, at uint64) bool {
		blocks = append(blocks, at)
		rows[at] = true
		var texts []uint64
		if texts, err = t.checkRow(tx, key, at); err == nil {
			blocks = append(blocks, texts...)
		}
		return err == nil
	})
	for i := 1; i < len(t.trees) && err == nil; i++ {
		left := len(rows)
		t.trees[i].Scan(tx, 0, ^uint64(0), func(key, at uint64) bool {
			if !rows[at] {
				err = fmt.Errorf("%w: index %d has a row at %d, where there is none", app.ErrDamaged, i, at)
			} else if want := (Tuple{t, tx, at}).key(i); key != want {
				err = fmt.Errorf("%w: index %d has a row under %#x, whose key is %#x", app.ErrDamaged, i, key, want)
			}
			left--
			return err == nil
		})
		if err == nil && left != 0 {
			err = fmt.Errorf("%w: index %d has %d rows less than the table", app.ErrDamaged, i, left)
		}
	}
	return blocks, err
}

// checkRow checks a row and lists the blocks of its texts.
func (t *Table) checkRow(tx *Tx, key, at uint64) (texts []uint64, err error) {
	if _, err := t.db.data.Bytes(at, t.size); err != nil {
		return nil, err
	}
	if got := tx.Load64(at); got != key {
		return nil, fmt.Errorf("%w: the row with key %#x says that it is %#x", app.ErrDamaged, key, got)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Max <= inline {
			var length [1]byte
			if tx.Read(at+c.off, length[:]); c.Max > 0 && int(length[0]) > c.Max {
				return nil, fmt.Errorf("%w: row %#x has a text of %d bytes in column %s", app.ErrDamaged, key, length[0], c.Name)
			}
			continue
		}
		place, n := tx.Load64(at+c.off), tx.Load64(at+c.off+8)
		if n > uint64(c.Max) || (n == 0) != (place == 0) {
			return nil, fmt.Errorf("%w: row %#x has a text of %d bytes at %d in column %s", app.ErrDamaged, key, n, place, c.Name)
		}
		if _, err := t.db.data.Bytes(place, n); err != nil {
			return nil, err
		}
		if place != 0 {
			texts = append(texts, place)
		}
	}
	return texts, nil
}

// Content is a checksum of all rows of all tables. For looks, at a database with which nothing is wrong.
func (db *DB) Content(tx *Tx) uint64 {
	var sum app.Sum
	for i, t := range db.tables {
		t.Scan(tx, Primary, 0, ^uint64(0), func(u Tuple) bool {
			var b []byte
			for j := range t.Columns {
				if t.Columns[j].Max == 0 {
					b = binary.LittleEndian.AppendUint64(b, uint64(u.Int(j)))
				} else {
					b = append(append(b, u.Text(j)...), 0)
				}
			}
			sum.Add(uint64(i)<<56^u.Key(), b)
			return true
		})
	}
	return uint64(sum)
}
