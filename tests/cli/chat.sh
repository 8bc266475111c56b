# A conversation through a pipe: the second answer is the one of the reference to the whole conversation.
stage_text
corral convert text text.crl --recipe bf16 --quiet >/dev/null
chat() { corral chat text.crl --max-tokens 12 --quiet "$@"; }
said first.txt >want
said second.txt >>want
printf 'Hello there\nAnd again?\n' | chat --system 'Be brief.' >got; cmp want got && echo same
said first.txt >>want
printf '/reset\n/system Be brief.\n"""\nHello there\n"""\nAnd again?\n/reset\nHello there\n/save conversation.json\n/quit\nx\n' | chat >got
cmp want got && echo same
tr -d '\n' <conversation.json | grep -oE '"(role|content)": "[a-zA-Z. ]*"' | head -4
printf '/frobnicate\n/save\n\n' | try chat
printf '/save no/such/file\n' | try chat
printf '%0300d\nHello there\n' 0 | try chat --system 'Be brief.' >got
tail -n 1 got
head -n 1 got >first && said first.txt | cmp - first && echo "answers go on after a message that does not fit"
printf '/help\n' | chat 2>&1 | head -n 2

# An interrupt ends a conversation through a pipe.
mkfifo pipe
"$CORRAL" chat text.crl --max-tokens 2 --quiet <pipe >got &
talk=$!
exec 3>pipe
echo Hello >&3
while [ ! -s got ] && kill -0 $talk 2>/dev/null; do sleep 0.1; done
while kill -INT $talk 2>/dev/null; do sleep 0.2; done
wait $talk
echo "exit $?"
