/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The policy in force: how each type of events is filtered. */
#ifndef FIM_POLICY_H
#define FIM_POLICY_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"

#define FIM_WRITE_FLAGS (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)

static __always_inline struct fim_policy *fim_policy_lookup(__u32 serial, __u32 type)
{
	return fim_cell(policies, (serial & 1) * FIM_TYPES + type, FIM_BANKS * FIM_TYPES);
}

/* Counts an event as seen. Returns NULL if the policy rejects its whole type, and counts that too. */
static __always_inline struct fim_policy *fim_policy_admit(__u32 type)
{
	struct fim_config *cfg = fim_config_lookup();
	struct fim_policy *policy;

	fim_count(type, seen);
	if (!cfg)
		return NULL;
	policy = fim_policy_lookup(cfg->serial, type);
	if (policy && policy->mode != FIM_REJECT_ALL)
		return policy;
	fim_count(type, approver_rejected);
	return NULL;
}

/* Whether an event counts as writing for approvers: all do but opens that do not ask for it. */
static __always_inline int fim_is_writing(__u32 type, __u32 flags)
{
	return type != FIM_OPEN || (flags & FIM_WRITE_FLAGS);
}

/*
 * Whether no approver of this policy can fit, whatever the object is: all that
 * are in use are for opens that write, and this one does not.
 */
static __always_inline int fim_is_hopeless(struct fim_policy *policy, __u32 type, __u32 flags)
{
	if (policy->mode != FIM_APPROVE)
		return 0;
	return !(fim_is_writing(type, flags) ? policy->kinds : policy->read_kinds);
}

/* Returns the kinds of approvers that may approve an event, and the event's bits in their masks. */
static __always_inline __u32 fim_policy_kinds(struct fim_policy *policy, __u32 type, __u32 flags, __u64 *bits)
{
	__u64 bit = 1ULL << (type & 31);

	*bits = bit;
	if (!fim_is_writing(type, flags))
		return policy->read_kinds;
	*bits = bit | bit << FIM_WRITING;
	return policy->kinds;
}

/* Prepares a slot for approvers: their kinds and the event's bits. */
static __always_inline struct fim_policy *fim_policy_consult(struct fim_slot *slot)
{
	struct fim_event *event = &slot->event;
	struct fim_policy *policy = fim_policy_lookup(event->serial, event->type);

	if (policy)
		slot->kinds = fim_policy_kinds(policy, event->type, event->flags, &slot->bits);
	return policy;
}

#endif /* FIM_POLICY_H */
