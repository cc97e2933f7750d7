// Package relational is a small relational engine on persistent memory: tables of typed columns, a primary key and secondary
// indexes, statements on one row or a range of keys, and transactions that are atomic, isolated (serialisable) and durable.
//
//	users := relational.Schema{Name: "users", Columns: []relational.Column{relational.Int("age"), relational.Text("name", 100)}}
//	db := relational.Open(data, users)
//	err := db.Run(thread, func(tx *relational.Tx) error {
//		return db.Table("users").Insert(tx, 7, relational.Row{{Int: 42}, {Text: "Ada"}})
//	})
//
// Rows are changed in place, field by field. The write-ahead log is an undo log of package ptx: what a field held is durable in the
// log before it is changed, as in the engine that WHISPER measured (N-Store's with in-place updates: Arulraj, Pavlo and
// Dulloor, Let's Talk About Storage & Recovery Methods for Non-Volatile Memory Database Systems, SIGMOD 2015). As there, a long
// text is a block of its own, of which the row has the place: changing it makes a new block and frees the old one.
package relational

import (
	"fmt"

	"whale/workload"
	"whale/workload/whisper/app"
	"whale/workload/whisper/btree"
	"whale/workload/whisper/tm"
)

// Tx is a transaction under way.
type Tx = tm.Tx

// Column is a column of a table: integers of 64 bits, or texts.
type Column struct {
	Name string
	Max  int // bytes that a text may have; 0: it is an integer

	off uint64 // in a row
}

// Int is a column of integers.
func Int(name string) Column { return Column{Name: name} }

// Text is a column of texts of up to max bytes.
func Text(name string, max int) Column { return Column{Name: name, Max: max} }

// inline is up to how many bytes texts are part of the row.
const inline = 31

// width is how many bytes of a row the column takes. Within: an integer; the length, in a byte, and the text; or place 8 and length
// 8 of the text.
func (c *Column) width() uint64 {
	switch {
	case c.Max == 0:
		return 8
	case c.Max <= inline:
		return (uint64(c.Max) + 1 + 7) &^ 7
	}
	return 16
}

// Schema is what a table is like.
type Schema struct {
	Name    string
	Columns []Column
	// Indexes are secondary: each has a key, of its own for each row, that depends on columns that never change and on the primary key.
	Indexes []func(Tuple) uint64
}

// Table is a table of a database: a tree of the primary keys, and one for each index, that lead to the rows.
//
// A row is a block: primary key 8, columns.
type Table struct {
	Schema
	db    *DB
	trees []btree.Tree // the primary key's, the indexes'
	size  uint64       // of a row
}

// DB is a database. Its tables are opened with the schemas, in the order, that they were made with.
type DB struct {
	mem    *tm.Memory
	data   *app.Data
	tables []*Table
}

// RootSize is how many bytes of root object a database needs.
func RootSize(schemas ...Schema) uint64 {
	n := 0
	for _, s := range schemas {
		n += 1 + len(s.Indexes)
	}
	return 8 * uint64(n)
}

// Open is the database in an application's data, whose root object, RootSize bytes, belongs to it. Tables are empty at first.
func Open(d *app.Data, schemas ...Schema) *DB {
	db := &DB{mem: tm.New(d.Pool), data: d}
	root := d.Root
	for _, s := range schemas {
		t := &Table{Schema: s, db: db, size: 8}
		t.Columns = append([]Column(nil), s.Columns...)
		for i := range t.Columns {
			t.Columns[i].off = t.size
			t.size += t.Columns[i].width()
		}
		for range 1 + len(s.Indexes) {
			t.trees = append(t.trees, btree.Tree{Root: root})
			root += 8
		}
		db.tables = append(db.tables, t)
	}
	return db
}

// Table is the table of that name. One that is not there is a programming error and panics.
func (db *DB) Table(name string) *Table {
	for _, t := range db.tables {
		if t.Name == name {
			return t
		}
	}
	panic(fmt.Sprintf("relational: no table %q", name))
}

// Run runs f as a transaction: see tm.Memory.Run.
func (db *DB) Run(t *workload.Thread, f func(*Tx) error) error { return db.mem.Run(t, f) }

// Look lets f read while no transaction is under way.
func (db *DB) Look(f func(*Tx) error) error { return db.mem.Look(f) }
