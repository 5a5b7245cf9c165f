/* SPDX-License-Identifier: MIT */
/*
 * The switch, the late due set, the other way and the recovery of docs/page-link.md, for spin.
 *
 * Two sides, two connections, a guest that writes where it runs, and a network that may lose both
 * connections at any time, LOSSES times. What is proven, for every order of events:
 *
 *	- the machine never runs on both sides, and on the outgoing side never after GO;
 *	- what the guest reads is what it wrote last, before and after the due set has come;
 *	- a page comes once, by one way, and is never written once it is present;
 *	- the due set names every page that is neither there nor right, also one that was answered before the
 *	  set was known, and whose contents have come in part; in a recovery it is what RECEIVED lacked;
 *	- COMPLETE means that every page is there;
 *	- nobody waits for ever: every run ends with the machine running on one side, whole.
 *
 * DUE stands for all DUE frames and DUE_END, RECEIVED for all RECEIVED frames and RECEIVED_END; RUNNING
 * and PING are left out: nothing depends on them but when the due set is looked for, which is when RUNNING has come,
 * or some time after GO. A page's contents are its version number. A page that comes is TORN from its first byte to
 * its last. The due set is found by a thread: so it is known at any time after GO. Messages that were sent before a
 * loss may still arrive, up to any point: a receiver reads on or notices, as it likes.
 *
 * -DWAY: rounds name pages that are read by a way that is not the link, and so are due pages once DUE has come.
 * The way may fail a read, and may be lost. -DCANCELS: the user calls it off, a recovery too, or the state cannot be
 * loaded. -DWORST: what was written last cannot be collected, and all counts as due. -DBREAK_... puts a mistake in,
 * to see that the model finds it; BREAK_WAY_... go with -DWAY, and BREAK_LAST_WORD with -DCANCELS.
 */
#define PAGES_N 2
#define ALL     3 /* the set of all pages */
#define TORN    8 /* contents of a page that has come in part, */
#define NOTHING 9 /* and of one that never came */

#ifndef LOSSES
#define LOSSES 2
#endif
#ifndef WRITES
#define WRITES 2
#endif

/* Mistakes that must be found, each by its name: spin -DBREAK_... */
#ifdef BREAK_GO_ON        /* the outgoing side runs again although GO may have arrived */
#define COMMITS false
#else
#define COMMITS true
#endif
#ifdef BREAK_STALE        /* the due set is not believed */
#define DUE_IN 0
#else
#define DUE_IN due_in
#endif
#ifdef BREAK_TWICE        /* what was answered is not remembered */
#define ANSWERED_WITH(p) answered
#else
#define ANSWERED_WITH(p) (answered | BIT(p))
#endif
#ifdef BREAK_FORGET       /* a loss between READY and GO is taken for the end */
#define KEEPS false
#else
#define KEEPS true
#endif
#ifdef BREAK_RECEIVED     /* what was on its way when the connection was lost counts as received */
#define TRULY(set) ((set) | answered)
#else
#define TRULY(set) (set)
#endif
#ifdef BREAK_EARLY        /* what is due is looked for before the machine has stopped */
#define FRESH early
#else
#define FRESH dirty
#endif
#ifdef BREAK_UNDECIDED    /* what was left of the rounds is taken for the due set until that is known */
#define COUNTS_AS_DUE(p) HAS(left, p)
#else
#define COUNTS_AS_DUE(p) (undecided || HAS(left, p))
#endif
#ifdef BREAK_ANSWERED     /* what was answered before the set was known is left out of it */
#define STAYS(set) 0
#else
#define STAYS(set) (set)
#endif
#ifdef BREAK_BEGINS_AGAIN /* what was answered is forgotten with the connection, before the set is known */
#define BEGIN_AGAIN_FIRST answered = 0
#else
#define BEGIN_AGAIN_FIRST skip
#endif
#ifdef BREAK_FREES        /* the outgoing side lets go of what it has sent */
#define FREE(p) mem[p] = NOTHING
#else
#define FREE(p) skip
#endif
#ifdef BREAK_RELEASED     /* what the rounds brought is used as soon as the machine is here */
#define MAY_RELEASE had_go
#else
#define MAY_RELEASE due_whole
#endif
#ifdef BREAK_ASKED        /* what is clean is used although an answer for it is under way */
#define UNDER_WAY coming
#else
#define UNDER_WAY (coming | asked | by_way)
#endif
#ifdef BREAK_ARMED        /* what is due is stale, also where it came before the set did */
#define STALE(set) present = present & ~(set)
#else
#define STALE(set) skip
#endif
#ifdef BREAK_LAST_WORD    /* a recovery that is called off says so like a migration before GO */
#define LAST_WORD main_out!CANCEL
#else
#define LAST_WORD demand_out!ERROR
#endif
#ifdef BREAK_WAY_EARLY    /* pages are read by the way before it is known that they are due */
#define GO_BY_WAY (adopted -> due_in : wanted)
#else
#define GO_BY_WAY (adopted -> due_in : 0)
#endif
#ifdef BREAK_WAY_BOTH     /* what is read by the way is hurried by the link */
#define HURRIED_BY_LINK (asked | by_way)
#else
#define HURRIED_BY_LINK asked
#endif
#ifdef BREAK_WAY_HALF     /* what was being read when the way failed counts as there */
#define HALF_IS_THERE(p) present = present | BIT(p)
#else
#define HALF_IS_THERE(p) skip
#endif
#ifdef BREAK_WAY_LATE     /* a way that was given up writes on */
#define WRITES_ON(p) late = late | BIT(p)
#else
#define WRITES_ON(p) skip
#endif
#ifdef BREAK_WAY_ROUND    /* ROUND_ACK does not wait for what RANGE has named */
#define NAMED_LEFT 0
#else
#define NAMED_LEFT named
#endif
#ifdef BREAK_WAY_LACK     /* the due set of a recovery is held against what is there when it comes */
#define LACK (due_in & ~present)
#else
#define LACK lack
#endif

mtype = { PAGES, RANGE, CLEAN, ROUND, ACK, STATE, READY, GO, DUE, REQUEST, RECEIVED, COMPLETE,
	  BYE, CANCEL, ERROR }
mtype = { ROUNDS, SWITCHING, LOADING, WAIT_GO, FOLLOWING, ENDING, LOST, DONE, FAILED }

/* The connections of one meeting: type, page or set, contents. */
chan main_out = [4] of { mtype, byte, byte };   /* from the outgoing side */
chan main_in = [4] of { mtype, byte, byte };    /* from the incoming side */
chan demand_out = [2] of { mtype, byte, byte };
chan demand_in = [2] of { mtype, byte, byte };
bool up = true;                                 /* the network; */
bool out_met = true, in_met = true;             /* and whether a side still believes in it */
byte losses;

/* The machine. */
bool out_runs = true, in_runs, committed;
byte version[PAGES_N];                          /* what the guest wrote last */
byte writes;

/* The outgoing side. Sets of pages. */
mtype out_phase = ROUNDS;
byte mem[PAGES_N];
byte dirty;                                     /* written since it was collected */
byte left = ALL;                                /* of which the other side has no right contents */
byte due, answered;
bool undecided, due_told;
bool cancel;
#ifdef BREAK_EARLY
byte early;
#endif

/* The incoming side. */
mtype in_phase = ROUNDS;
byte have[PAGES_N] = NOTHING;
byte present;
byte wanted;                                    /* someone waits */
byte asked;                                     /* by the link */
byte hurried;                                   /* of these, by demand */
byte coming;                                    /* contents have begun to come */
byte due_in, lack;
bool due_whole, adopted, had_go;
byte named, by_way;                             /* to be read, or being read, by the way: in rounds, and after */
bool way_up = true;
#ifdef BREAK_WAY_LATE
byte late;
#endif

#define BIT(p)      (1 << (p))
#define HAS(set, p) (((set) >> (p)) & 1)
/* A send that the network swallows, too, once it is gone. */
#define SEND(to, what, a, b) if :: up && nfull(to) -> to!what(a, b) :: !up -> skip fi

inline drop_all()
{
	do
	:: main_out?_, _, _
	:: main_in?_, _, _
	:: demand_out?_, _, _
	:: demand_in?_, _, _
	:: empty(main_out) && empty(main_in) && empty(demand_out) && empty(demand_in) -> break
	od
}

/* --- the outgoing side --- */

/* Answers a request for page p on a connection: once as long as the connections last. */
inline answer(to, p)
{
	atomic {
		if
		:: HAS(answered, p) -> skip /* it is on its way on the other connection */
		:: !HAS(answered, p) && COUNTS_AS_DUE(p) ->
			answered = ANSWERED_WITH(p);
			left = left & ~BIT(p);
			SEND(to, PAGES, p, mem[p]);
			FREE(p)
		:: !HAS(answered, p) && !COUNTS_AS_DUE(p) ->
			answered = ANSWERED_WITH(p);
			SEND(to, CLEAN, p, 0)
		fi;
		p = 0
	}
}

inline decide()
{
	d_step {
#ifdef WORST
		left = ALL;
#endif
		left = left | FRESH;
		dirty = 0;
		due = left | STAYS(answered);
		left = left & ~answered;
		undecided = false
	}
}

inline out_lost()
{
	atomic {
		out_met = false;
		if
		:: committed ->
			BEGIN_AGAIN_FIRST;
			if
			:: undecided -> decide()
			:: else -> skip
			fi;
			out_phase = LOST
		:: else -> out_phase = FAILED
		fi
	}
}

/* All that is left, and until all of it has arrived. */
inline send_round()
{
	atomic { b = left; left = 0; p = 0 };
	do
#ifdef WAY
	:: p < PAGES_N && HAS(b, p) -> SEND(main_out, RANGE, p, 0); p++
#else
	:: p < PAGES_N && HAS(b, p) -> SEND(main_out, PAGES, p, mem[p]); p++
#endif
	:: p < PAGES_N && !HAS(b, p) -> p++
	:: p == PAGES_N -> p = 0; b = 0; break
	od;
	SEND(main_out, ROUND, 0, 0);
	do
	:: main_in?ACK(_, _) -> break
	:: main_in?ERROR(_, _) -> goto failed
	:: cancel -> SEND(main_out, CANCEL, 0, 0); goto failed
	:: !up -> out_lost(); goto lost
	od
}

active proctype Outgoing()
{
	byte p, b, rounds;

	/* None at all is mode postcopy. */
	do
	:: rounds < 2 && !cancel -> send_round(); rounds++; d_step { left = left | dirty; dirty = 0 }
	:: !cancel -> break
	:: cancel -> SEND(main_out, CANCEL, 0, 0); goto failed
	od;

	/* The switch. Nothing is left for after it in mode precopy. */
#ifdef BREAK_EARLY
	early = dirty;
#endif
	atomic { out_runs = false; out_phase = SWITCHING };
	if
	:: rounds > 0 ->
		d_step { left = left | dirty; dirty = 0 };
		send_round();
		SEND(main_out, DUE, 0, 0);
		due_told = true
	:: undecided = true
	fi;
	rounds = 0;
	SEND(main_out, STATE, 0, 0);
	do
	:: main_in?READY(_, _) -> break
	:: main_in?ERROR(_, _) -> goto failed
	:: demand_in?REQUEST(p, _) -> answer(demand_out, p)
	:: cancel -> SEND(main_out, CANCEL, 0, 0); goto failed
	:: !up -> out_lost(); goto lost
	od;
	/* The point of no return: from here on it counts as sent, whether it arrives or not. */
	atomic {
		assert(in_phase != FAILED);
		committed = COMMITS;
		SEND(main_out, GO, 0, 0);
		out_phase = FOLLOWING
	};

following:
	do
	:: undecided -> decide()
	:: !undecided && !due_told && (nfull(main_out) || !up) -> due_told = true; SEND(main_out, DUE, due, 0)
	:: demand_in?REQUEST(p, _) -> answer(demand_out, p)
	:: main_in?REQUEST(p, _) -> answer(main_out, p)
	:: main_in?COMPLETE(_, _) -> assert(present == ALL); SEND(main_out, BYE, 0, 0); out_phase = DONE; goto end_done
	:: !up -> out_lost(); goto lost
	od;

lost:
	if
	:: out_phase == FAILED -> goto failed
	:: else -> skip
	fi;
	/* A recovery: the other side says what it has. */
end_lost:
	do
	:: out_met && nempty(main_in) ->
		atomic {
			main_in?RECEIVED(b, _);
			due = due & ~TRULY(b);
			left = due;
			answered = 0;
			due_told = false;
			out_phase = FOLLOWING;
			b = 0
		};
		SEND(main_out, GO, 0, 0);
		goto following
	:: atomic { out_met && up && cancel ->
		/* GO may have been lost with the last connections: until it is queued again nothing on main may
		 * tell of an end. */
		LAST_WORD(0, 0);
		cancel = false; up = false; out_met = false }
	:: out_met && !up -> out_met = false
	od;

failed:
	atomic { out_phase = FAILED; assert(!in_runs && !committed); out_runs = true };
end_done:
	skip
}

/* --- the incoming side --- */

/* Contents of page p begin to come by the link, */
inline begin(p)
{
	assert(HAS(asked, p)); /* else nobody asked, or it came twice */
	assert(!HAS(present, p));
	asked = asked & ~BIT(p);
	coming = coming | BIT(p);
	have[p] = TORN
}

/* or are there, in whichever way. */
inline is_there(p)
{
	assert(!HAS(present, p));
	assert(out_runs || have[p] == version[p]); /* where it has failed, nobody will read it */
	present = present | BIT(p);
	wanted = wanted & ~BIT(p);
	asked = asked & ~BIT(p);
	hurried = hurried & ~BIT(p)
}

inline came(p, contents)
{
	coming = coming & ~BIT(p);
	have[p] = contents;
	is_there(p)
}

inline clean(p)
{
	assert(HAS(asked, p));
	assert(have[p] != TORN && have[p] != NOTHING && !(due_whole && HAS(due_in, p)));
	is_there(p)
}

/* The due set must name what is not right here, and not there. */
inline take_due(set)
{
	assert(HAS(set | present, 0) || (have[0] != TORN && have[0] != NOTHING));
	assert(HAS(set | present, 1) || (have[1] != TORN && have[1] != NOTHING));
	due_in = set;
	due_whole = true;
	STALE(set)
}

#define CAN_BE_USED(p) (!HAS(present | UNDER_WAY | DUE_IN, p) && have[p] != TORN && have[p] != NOTHING)

/* What is clean, and not asked for, is there now. */
inline adopt()
{
	if
	:: CAN_BE_USED(0) -> is_there(0)
	:: else -> skip
	fi;
	if
	:: CAN_BE_USED(1) -> is_there(1)
	:: else -> skip
	fi;
	adopted = true
}

inline in_lost()
{
	atomic {
		in_met = false;
		half_main = 0; half_demand = 0; what_main = 0; what_demand = 0;
		asked = 0; hurried = 0; coming = 0;
		if
		:: had_go -> in_phase = LOST
		:: in_phase == WAIT_GO && KEEPS -> in_phase = LOST /* GO may be under way: it must not be forgotten */
		:: else -> in_phase = FAILED
		fi
	}
}

/* GO, also one that a recovery says again. */
inline take_go()
{
	had_go = true;
	assert(!out_runs);
	in_runs = true
}

#define MAY_ASK(p) (!HAS(present | asked | coming | by_way, p) && (HAS(wanted, p) || adopted))
/* Touched when it was asked for on the main connection. */
#define HURRY(p)   (HAS(HURRIED_BY_LINK & wanted, p) && !HAS(hurried, p))
#define SERVES     (in_phase == LOADING || in_phase == WAIT_GO || in_phase == FOLLOWING)

/* Asks for what someone waits for at once, and for the rest once the due set is known. */
inline ask(p)
{
	asked = asked | BIT(p);
	if
	:: HAS(wanted, p) -> hurried = hurried | BIT(p); demand_in!REQUEST(p, 0)
	:: else -> main_in!REQUEST(p, 0)
	fi
}

active proctype Incoming()
{
	byte p, b;
	byte half_main, half_demand;  /* page of which contents are coming there, and one; 0: none */
	byte what_main, what_demand;
	bool acking;

	do
	:: main_out?PAGES(p, b) -> have[p] = b; p = 0; b = 0
#ifdef WAY
	:: atomic { main_out?RANGE(p, _) -> have[p] = TORN; named = named | BIT(p); p = 0 }
	:: named && !way_up -> SEND(main_in, ERROR, 0, 0); goto failed
#endif
	:: main_out?ROUND(_, _) -> acking = true
	:: acking && !NAMED_LEFT -> acking = false; SEND(main_in, ACK, 0, 0)
	:: main_out?CANCEL(_, _) -> goto failed
	:: atomic { main_out?DUE(b, _) -> take_due(b); b = 0 }
	:: main_out?STATE(_, _) -> break
	:: !up -> goto failed
	od;
	atomic {
		in_phase = LOADING; /* touches pages */
		if
		:: wanted = 1
		:: skip
		fi
	};

serving:
	do
	:: in_phase == LOADING && !wanted -> SEND(main_in, READY, 0, 0); in_phase = WAIT_GO
#ifdef CANCELS
	:: in_phase == LOADING -> SEND(main_in, ERROR, 0, 0); goto failed
#endif
	:: atomic { SERVES && MAY_RELEASE && !adopted -> adopt() }
	:: atomic { SERVES && MAY_ASK(0) && up && nfull(main_in) && nfull(demand_in) -> ask(0) }
	:: atomic { SERVES && MAY_ASK(1) && up && nfull(main_in) && nfull(demand_in) -> ask(1) }
	:: atomic { SERVES && HURRY(0) && up && nfull(demand_in) ->
		asked = asked | 1; hurried = hurried | 1; demand_in!REQUEST(0, 0) }
	:: atomic { SERVES && HURRY(1) && up && nfull(demand_in) ->
		asked = asked | 2; hurried = hurried | 2; demand_in!REQUEST(1, 0) }
	:: atomic { !half_demand && nempty(demand_out) ->
		if
		:: demand_out?PAGES(p, what_demand) -> begin(p); half_demand = p + 1
		:: demand_out?CLEAN(p, _) -> clean(p)
		fi;
		p = 0 }
	:: atomic { half_demand ->
		p = half_demand - 1; came(p, what_demand); half_demand = 0; what_demand = 0; p = 0 }
	:: atomic { !half_main && nempty(main_out) ->
		if
		:: main_out?PAGES(p, what_main) -> begin(p); half_main = p + 1
		:: main_out?CLEAN(p, _) -> clean(p)
		:: main_out?DUE(b, _) -> assert(!due_whole); take_due(b)
		:: main_out?GO(_, _) ->
			assert(in_phase == WAIT_GO);
			take_go();
			in_phase = FOLLOWING
		:: main_out?CANCEL(_, _) -> assert(in_phase == LOADING || in_phase == WAIT_GO); goto failed
		:: main_out?BYE(_, _) -> assert(in_phase == ENDING); goto done
		fi;
		p = 0; b = 0 }
	:: atomic { half_main -> p = half_main - 1; came(p, what_main); half_main = 0; what_main = 0; p = 0 }
	:: in_phase == FOLLOWING && present == ALL && adopted ->
		SEND(main_in, COMPLETE, 0, 0); in_phase = ENDING
	:: !up -> in_lost(); goto lost
	od;

lost:
	if
	:: in_phase == FAILED -> goto failed
	:: else -> skip
	fi;
	/* A recovery. What was asked for is asked for again when the due set has come; what arrived stays. */
end_lost:
	if
	:: in_met ->
		atomic {
			lack = due_in & ~present;
			SEND(main_in, RECEIVED, present, 0)
		}
	/* It is whole: nothing more is wanted of the other side. */
	:: present == ALL && had_go && !in_met && !up -> goto done
	fi;
	do
	:: atomic { main_out?GO(_, _) -> take_go() }
	:: atomic { main_out?DUE(b, _) ->
		if
		:: due_whole -> assert(b == LACK)
		:: else -> take_due(b)
		fi;
		adopt(); /* which settles what was asked for before the loss, and is clean */
		b = 0; lack = 0;
		in_phase = FOLLOWING;
		goto serving }
	:: demand_out?ERROR(_, _) -> in_met = false; goto end_lost
#ifdef BREAK_LAST_WORD
	:: main_out?CANCEL(_, _) -> goto failed
#endif
	:: !up -> in_met = false; goto end_lost
	od;

done:
	atomic { in_phase = DONE; goto end_done };
failed:
	atomic { in_phase = FAILED; assert(!in_runs && !committed) };
end_done:
	skip
}

#ifdef WAY
#define CAN_READ(p) (HAS(GO_BY_WAY, p) && !HAS(present | asked | coming | by_way, p) && \
		     (in_phase == FOLLOWING || in_phase == LOST))

inline read_begins(p) { by_way = by_way | BIT(p); have[p] = TORN }

inline read_ends(p)
{
	by_way = by_way & ~BIT(p);
	have[p] = mem[p];
	is_there(p)
}

/* A wrong sum, or the way is lost: the link is asked. */
inline read_fails(p)
{
	by_way = by_way & ~BIT(p);
	HALF_IS_THERE(p);
	WRITES_ON(p)
}

/* The other way: a queue of reads, that a lost link does not change. */
active proctype Way()
{
#ifdef BREAK_WAY_LATE
	byte p;
#endif
end_way:
	do
	:: atomic { way_up && HAS(named, 0) && in_phase == ROUNDS -> have[0] = mem[0]; named = named & ~1 }
	:: atomic { way_up && HAS(named, 1) && in_phase == ROUNDS -> have[1] = mem[1]; named = named & ~2 }
	:: atomic { way_up && CAN_READ(0) -> read_begins(0) }
	:: atomic { way_up && CAN_READ(1) -> read_begins(1) }
	:: atomic { HAS(by_way, 0) && way_up -> read_ends(0) }
	:: atomic { HAS(by_way, 1) && way_up -> read_ends(1) }
	:: atomic { HAS(by_way, 0) -> read_fails(0) }
	:: atomic { HAS(by_way, 1) -> read_fails(1) }
	:: way_up -> way_up = false
#ifdef BREAK_WAY_LATE
	:: atomic { late -> p = (HAS(late, 0) -> 0 : 1); late = late & ~BIT(p); have[p] = mem[p];
		assert(!HAS(present, p) || have[p] == version[p]) }
#endif
	od
}
#endif

/* The guest, where it runs. What it reads is looked at when a page comes to be present, and before it
 * writes there. */
#define CAN_TOUCH(p) ((HAS(present, p) && writes <= WRITES) || (!HAS(present, p) && !HAS(wanted, p)))

active proctype Guest()
{
	byte p;

end_guest:
	do
	:: atomic { out_runs && !in_runs && writes < WRITES ->
		if :: p = 0 :: p = 1 fi;
		mem[p]++; version[p] = mem[p]; dirty = dirty | BIT(p); writes++; p = 0 }
	:: atomic { in_runs && (CAN_TOUCH(0) || CAN_TOUCH(1)) ->
		assert(!out_runs);
		if :: CAN_TOUCH(0) -> p = 0 :: CAN_TOUCH(1) -> p = 1 fi;
		if
		:: HAS(present, p) ->
			assert(have[p] == version[p]);
			version[p]++; have[p] = version[p]; writes++
		:: else -> wanted = wanted | BIT(p)
		fi;
		p = 0 }
	od
}

/* The network goes, and comes back when both have noticed and someone asks for a recovery. */
active proctype Network()
{
end_network:
	do
	:: atomic { up && losses < LOSSES && out_phase != DONE && in_phase != DONE -> up = false; losses++ }
	:: atomic { !up && !out_met && !in_met && out_phase == LOST && in_phase == LOST ->
		drop_all(); up = true; out_met = true; in_met = true }
	od
}

#ifdef CANCELS
active proctype User()
{
	cancel = true
}
#endif

/* Nothing more can happen. */
active proctype End()
{
end_end:
	timeout -> assert(out_runs || (in_runs && present == ALL && have[0] == version[0] && have[1] == version[1]))
}
