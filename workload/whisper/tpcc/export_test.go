package tpcc

import (
	"fmt"
	"testing"

	"whale/workload"
	"whale/workload/whisper/relational"
)

// Spoil changes, in turn, integers of some rows that a consistency condition speaks of, and lists what Check does not find.
func Spoil(t *testing.T, prog workload.Program) (missed []string) {
	p := prog.(*program)
	one := func(u relational.Tuple, column int, now func(was int64) int64) {
		set := func(v int64) {
			err := p.db.Run(workload.NewThread(0, 1, workload.Real{}), func(tx *relational.Tx) error {
				row, err := u.Table().Must(tx, u.Key())
				if err == nil {
					row.SetInt(column, v)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		was := u.Int(column)
		if set(now(was)); p.Check() == nil {
			missed = append(missed, fmt.Sprintf("column %d of %s, key %#x, %d", column, u.Table().Name, u.Key(), was))
		}
		set(was)
	}
	try := func(table *relational.Table, now func(was int64) int64, columns ...int) {
		var all []relational.Tuple
		p.db.Look(func(tx *relational.Tx) error {
			table.Scan(tx, relational.Primary, 0, ^uint64(0), func(u relational.Tuple) bool { all = append(all, u); return true })
			return nil
		})
		for _, u := range all[:min(len(all), 6)] {
			for _, column := range columns {
				one(u, column, now)
			}
		}
	}
	more := func(was int64) int64 { return was + 1 }
	toggle := func(was int64) int64 { // what is null becomes something, and the other way round
		if was == 0 {
			return 1
		}
		return 0
	}
	try(p.warehouse, more, wYTD)
	try(p.district, more, dYTD, dNextOrder)
	try(p.customer, more, cBalance, cYTDPayment, cPayments, cDeliveries)
	try(p.history, more, hAmount, hDistrict)
	try(p.orders, more, oLines, oCustomer)
	try(p.orders, toggle, oCarrier)
	try(p.lines, more, lAmount) // of the first order, which is delivered
	try(p.lines, toggle, lDelivery)
	if err := p.Check(); err != nil {
		t.Fatalf("put right again: %v", err)
	}
	return missed
}
