for i in $(seq 1 8); do echo "int f$i(void){return $i;}" > f$i.c; done
{
    for i in $(seq 1 8); do echo "int f$i(void);"; done
    echo '#include <stdio.h>'
    echo 'int main(void){printf("%d\n",'
    for i in $(seq 1 8); do printf 'f%s()+' "$i"; done
    echo '0);return 0;}'
} > main.c
printf 'O=$(patsubst %%.c,%%.o,$(wildcard *.c))\nall: p\np: $(O)\n\t@gcc -o $@ $^\n%%.o: %%.c\n\t@gcc -c -o $@ $<\nclean:\n\t@rm -f *.o p\n' > Makefile
make -j2 && ./p && make -q && echo 'up to date' && make clean && ls | wc -l
