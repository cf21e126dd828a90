--[[
proof.lua: why it holds. docs/internals/guard.md says the same at more length.

Commit L invalidates K; a reader's token says (T, R): it saw every commit of timeline T up to R.
* apply raises K's bucket, then deletes K, then writes the position, atomically. Was L delivered before the
  fill? Then the bucket is at least L; a snapshot that missed L has R < L, and is refused. Was it
  delivered after? Then the delete removes the value. Deleting first would let a fill pass in between,
  should a batch ever tear. The position comes last, since it vouches for both.
* Batches come out of order when one commit is slow to become visible, and a bucket must never go down. So
  what is written is the highest LSN of all batches since the guard was made. No bucket is above it, so none
  need be read first, and every LSN at or below it is visible once the slow commit is, so that no key stays
  unfillable.
* A floor >= L covers K too. What is lost is only that other reads older than the batch are admitted. It
  keeps a call short.
* A missing guard refuses, and buckets are raised only while there is one. When it is made anew its floor is
  E: everything delivered before lies below it. The position or the visible LSN would not do, for deliveries
  are out of order.
* The nonce is in this process's memory. A Redis that restarted, reloaded or was promoted is unarmed, and no
  proxy can hide that. A master that was demoted and comes back still has its memory, but another's data.
  So memory holds the header as this process wrote it last. Each write makes it unique, and a fill needs to
  find it there: data of any other state, older or another's, have another header or none, because a claim
  deletes a guard that its process does not know.
* A master that was replaced without a copy, and comes back so, still has its memory and the data that go
  with it: armed. So an arming ends by itself unless its worker renews it. And a worker on a process that is
  not the one it claimed last tells nobody that anything is delivered until each arming elsewhere must have
  ended. A renewal says until when, in a time that this server told before: one that lay in the socket
  of a master that was stopped extends nothing. Asking for the time would cost a TIME in each fill; instead
  the guard expires in the year 2100, and the time left until then is asked for. A clock that goes back ends
  the arming.
* A database of Redis has no name that a function could ask for, and SWAPDB, MOVE, RENAME or RESTORE put
  any key anywhere. So the claim by which a fill is judged is found by the header that stands under the
  token's guard, not by the place where it stands: in memory that header is in one place only, which
  knows what was delivered to the data that went with it. The worker's calls name their claim by its nonce.
* A NEWER TIMELINE alone does not tell a successor from a clone of this server that was restored somewhere. So
  who has a newer one takes over from a server that lives only if it announced itself as a standby that streams
  the timeline which has the claim. Otherwise it waits until that server is silent: no call of its worker for
  SILENT ms, and in ASKS questions of others, since a clock may jump. One timeline, two servers (a copied
  volume): the claim belongs to the server that has it, or that knows its nonce from a file. Whoever
  presents a copy of that file is found out when the server that it displaced turns out to live; that
  server gets the claim back.
* TWO SYSTEMS that write the same keys (blue and green) know nothing of each other's LSNs. Both delete, but only
  the tokens of one, the writer, are admitted. What the other one deletes marks the keys' buckets in the
  writer's claim: no fill of these, until the writer's worker heard of it and has read all log that was
  flushed then. Each token given before is at or below that end; the bucket is put above it. Marking writes
  the header anew, so that no other process believes the guard; where there is no claim to mark, the guard
  goes. A guard that is made anew where another system has deleted begins above the end of the log, for the
  last token of an idle server is the same before and after. Who takes the writer's place deletes its guard
  and its claim.
* Every raise went through this process. So floor, buckets and the highest LSN in any of them are in its
  memory too, and a fill whose R is not below that highest one needs no bucket.
* epoch writes floor and position together, before anything is deleted: a stale fill cannot follow the
  deletes, and a worker that dies in between finds "pending". A worker of an older timeline cannot claim, so
  it writes nothing.
]]

