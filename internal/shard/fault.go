package shard

// Fault takes one rule away from an engine, so that tests can show that they would notice. Only tests set one.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultReadUnstable lets P answer reads from versions that are not committed (trap 3 of docs/protocol.md).
	FaultReadUnstable
	// FaultNoGate lets a reply leave that reveals a write which is not committed (trap 8).
	FaultNoGate
	// FaultAnyEpoch accepts an S word of any epoch (trap 11).
	FaultAnyEpoch
	// FaultKnownS takes the S that a backup happens to know for a fresh one: no READ (trap 2, the reader's side).
	FaultKnownS
	// FaultOwnClock lets every member decide by its own clock that a key has expired.
	FaultOwnClock
	// FaultNoRevoke leaves the rights of a view standing when the next one begins (OneWriter).
	FaultNoRevoke
	// FaultServeFenced goes on serving after the member was fenced.
	FaultServeFenced
	// FaultEarlyActive activates a view before what members lack has reached them.
	FaultEarlyActive
	// FaultShortLog lets P lead although another member knows of records that P does not have.
	FaultShortLog
	// FaultJoinRefresh lets a read share the answer to a READ of S that was posted before the read began.
	FaultJoinRefresh
	// FaultNoCommit lets P post records before they are durable in its own log.
	FaultNoCommit
	// FaultNoCommitBackup lets a backup report records as durable that are not.
	FaultNoCommitBackup
	// FaultOvertake lets a read overtake the writes before it on its connection.
	FaultOvertake
	// FaultSendAgain forwards a request once more whose connection to P was lost.
	FaultSendAgain
	// FaultNotExecuted says of an appended command that took too long that it was not executed.
	FaultNotExecuted
	// FaultIgnoreInFlight takes a key for withdrawn although an operation under it may still land (OneWriter).
	FaultIgnoreInFlight
	// FaultKeepAnswered keeps what was forwarded after it was answered.
	FaultKeepAnswered
	// FaultNoQueueLimit lets any number of requests wait.
	FaultNoQueueLimit
	// FaultLazyExpiry removes a key whose deadline has passed only when a command meets it.
	FaultLazyExpiry
	// FaultStampNow lets EXEC forget what WATCH has seen.
	FaultStampNow
	// FaultNoLease lets a backup's loop answer reads without a lease.
	FaultNoLease
	// FaultNoLeaseAside lets a backup answer reads without a lease that do not go through the loop (TryRun).
	FaultNoLeaseAside
	// FaultNoLeaseAtP lets P's loop answer reads without the leases of all backups.
	FaultNoLeaseAtP
	// FaultNoLeaseWait lets P activate a view while somebody outside it may still hold a lease.
	FaultNoLeaseWait
	// FaultForgetPromises lets a P that was started again forget that it may have promised something before.
	FaultForgetPromises
	// FaultNoPromise gives leases without writing them down.
	FaultNoPromise
	// FaultPromiseUnstretched promises no longer than the lease, as if all clocks were equally fast.
	FaultPromiseUnstretched
	// FaultHeldFromAnswer counts a lease from when the answer is here, not from before it was asked for.
	FaultHeldFromAnswer
	// FaultLeaseUnbounded lets P give leases beyond the end of those that it holds.
	FaultLeaseUnbounded
	// FaultRenewExpelled lets P go on renewing leases of earlier epochs (trap 5).
	FaultRenewExpelled
	// FaultAnyLease accepts leases of any epoch (trap 11).
	FaultAnyLease
	// FaultUnknownIsDone takes a swap of which nothing was heard for one that was carried out.
	FaultUnknownIsDone
	// FaultStaleInSync leaves E of the record as it was when a view becomes active.
	FaultStaleInSync
	// FaultFetchLate asks P for bytes that are late, although others come.
	FaultFetchLate
)

// Break makes the engine obey the protocol but for one rule.
func (e *Engine) Break(f Fault) {
	if e.bad = f; f == FaultForgetPromises {
		clear(e.leases)
	}
}
