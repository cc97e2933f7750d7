package tpcc

import (
	"hash/fnv"

	"whale/workload/whisper/relational"
)

// Keys are packed: a warehouse in 8 bits, a district in 4, a customer in 16, an order in 32, a line of an order in 4.
func districtKey(w, d int) uint64                { return uint64(w)<<4 | uint64(d) }
func customerKey(w, d, c int) uint64             { return districtKey(w, d)<<16 | uint64(c) }
func orderKey(w, d, o int) uint64                { return districtKey(w, d)<<32 | uint64(o) }
func lineKey(w, d, o, number int) uint64         { return orderKey(w, d, o)<<4 | uint64(number) }
func stockKey(w, i int) uint64                   { return uint64(w)<<32 | uint64(i) }
func historyKey(customer uint64, n int64) uint64 { return customer<<24 | uint64(n) }

// nameKey leads to customers by their last name; others whose name has the same hash are among them.
func nameKey(district uint64, last string, c uint64) uint64 {
	h := fnv.New32a()
	h.Write([]byte(last))
	return district<<32 | uint64(h.Sum32()&0xffff)<<16 | c
}

// Columns. What leads to a row is in its key. Money is in cents, rates in hundredths of a percent.
const (
	wName = iota
	wStreet1
	wStreet2
	wCity
	wState
	wZip
	wTax
	wYTD
)

const (
	dName = iota
	dStreet1
	dStreet2
	dCity
	dState
	dZip
	dTax
	dYTD
	dNextOrder
)

const (
	cFirst = iota
	cMiddle
	cLast
	cStreet1
	cStreet2
	cCity
	cState
	cZip
	cPhone
	cSince
	cCredit
	cLimit
	cDiscount
	cBalance
	cYTDPayment
	cPayments
	cDeliveries
	cData
)

const (
	hWarehouse = iota
	hDistrict
	hDate
	hAmount
	hData
)

const (
	oCustomer = iota
	oEntry
	oCarrier // 0: none yet
	oLines
	oLocal
)

const (
	lItem = iota
	lSupply
	lDelivery // 0: not yet
	lQuantity
	lAmount
	lInfo
)

const (
	iImage = iota
	iName
	iPrice
	iData
)

const (
	sQuantity = iota
	sYTD
	sOrders
	sRemote
	sData
	sInfo // of district 1; the others follow
)

func address() []relational.Column {
	return []relational.Column{relational.Text("street_1", 20), relational.Text("street_2", 20), relational.Text("city", 20),
		relational.Text("state", 2), relational.Text("zip", 9)}
}

func integers(names ...string) (all []relational.Column) {
	for _, n := range names {
		all = append(all, relational.Int(n))
	}
	return all
}

func columns(parts ...[]relational.Column) (all []relational.Column) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func text(name string, max int) []relational.Column {
	return []relational.Column{relational.Text(name, max)}
}

// schemas are the nine tables of the specification, clause 1.3.
func schemas() []relational.Schema {
	stock := columns(integers("quantity", "ytd", "order_cnt", "remote_cnt"), text("data", 50))
	for _, d := range []string{"01", "02", "03", "04", "05", "06", "07", "08", "09", "10"} {
		stock = append(stock, relational.Text("dist_"+d, 24))
	}
	byName := func(u relational.Tuple) uint64 { return nameKey(u.Key()>>16, u.Text(cLast), u.Key()&0xffff) }
	byCustomer := func(u relational.Tuple) uint64 {
		return (u.Key()>>32<<16|uint64(u.Int(oCustomer)))<<32 | u.Key()&0xffffffff
	}
	return []relational.Schema{
		{Name: "warehouse", Columns: columns(text("name", 10), address(), integers("tax", "ytd"))},
		{Name: "district", Columns: columns(text("name", 10), address(), integers("tax", "ytd", "next_o_id"))},
		{Name: "customer", Columns: columns(text("first", 16), text("middle", 2), text("last", 16), address(), text("phone", 16), integers("since"),
			text("credit", 2), integers("credit_lim", "discount", "balance", "ytd_payment", "payment_cnt", "delivery_cnt"), text("data", 500)),
			Indexes: []func(relational.Tuple) uint64{byName}},
		{Name: "history", Columns: columns(integers("w_id", "d_id", "date", "amount"), text("data", 24))},
		{Name: "new_order"},
		{Name: "orders", Columns: integers("c_id", "entry_d", "carrier_id", "ol_cnt", "all_local"),
			Indexes: []func(relational.Tuple) uint64{byCustomer}},
		{Name: "order_line", Columns: columns(integers("i_id", "supply_w_id", "delivery_d", "quantity", "amount"), text("dist_info", 24))},
		{Name: "item", Columns: columns(integers("im_id"), text("name", 24), integers("price"), text("data", 50))},
		{Name: "stock", Columns: stock},
	}
}

// The indexes beside the primary one.
const (
	byName     = 1 // of customer
	byCustomer = 1 // of orders
)

// tables are the database's.
type tables struct {
	db                                                                           *relational.DB
	warehouse, district, customer, history, newOrder, orders, lines, item, stock *relational.Table
}

func openTables(db *relational.DB) tables {
	return tables{db, db.Table("warehouse"), db.Table("district"), db.Table("customer"), db.Table("history"), db.Table("new_order"),
		db.Table("orders"), db.Table("order_line"), db.Table("item"), db.Table("stock")}
}
