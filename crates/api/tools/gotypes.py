"""Reads the reflect data of a Go binary: struct types with their fields, pointers and tags.

Used by generate_schemas.py. Knows the layout of `abi.Type` of Go 1.22 to 1.27 on 64-bit little-endian ELF.
"""
import struct

KINDS = {1:'bool',2:'int',3:'int8',4:'int16',5:'int32',6:'int64',7:'uint',8:'uint8',9:'uint16',10:'uint32',11:'uint64',
         12:'uintptr',13:'float32',14:'float64',15:'complex64',16:'complex128',17:'array',18:'chan',19:'func',20:'interface',
         21:'map',22:'ptr',23:'slice',24:'string',25:'struct',26:'unsafeptr'}

class GoTypes:
    def __init__(self, path):
        self.f = f = open(path,'rb').read()
        u = struct.unpack_from
        shoff=u('<Q',f,0x28)[0]; shnum=u('<H',f,0x3c)[0]; shstr=u('<H',f,0x3e)[0]
        raw=[u('<IIQQQQ',f,shoff+64*i) for i in range(shnum)]
        so=raw[shstr][4]; self.sec={}
        for s in raw:
            e=f.index(b'\0',so+s[0]); self.sec[f[so+s[0]:e].decode()]=s
        # Up to Go 1.26 types live in .rodata and .typelink lists roots; from 1.27 they have a section of their own.
        self.ro=self.sec.get('.go.type') or self.sec['.rodata']; self.types=self.ro[3]
        self.cache={}; self.byname={}
        tl=self.sec.get('.typelink')
        if tl: todo=[self.types+u('<i',f,tl[4]+i)[0] for i in range(0,tl[5],4)]
        else: todo=[self.ro[3]+i for i in range(0,self.ro[5]-80,8) if self.struct_at(self.ro[4]+i)]
        while todo:
            a=todo.pop()
            if a in self.cache or not self.ro[3]<=a<self.ro[3]+self.ro[5]: continue
            t=self.parse(a); self.cache[a]=t
            todo+=t['refs']
        for t in self.cache.values():
            if t['named'] and t['pkg']:
                self.byname[(t['pkg'],t['name'].split('.')[-1])]=t
    def struct_at(self,o):
        f=self.f; u=struct.unpack_from
        if f[o+23]&31!=25 or not f[o+20]&4 or f[o+20]&0xe0: return False
        st=u('<i',f,o+40)[0]; fp,fn,fc=u('<QQQ',f,o+56)
        if not 0<st<self.ro[5]-64 or fn!=fc or not 0<fn<200: return False
        try:
            n=self.name(self.types+st)[0]
            self.off(fp)
        except (ValueError,IndexError): return False
        return n.isprintable() and '.' in n and len(n)<300
    def off(self,a):
        for s in self.sec.values():
            if s[3] and s[3]<=a<s[3]+s[5]: return a-s[3]+s[4]
        raise ValueError(hex(a))
    def name(self,a):
        if not a: return '', '', False
        f=self.f; o=self.off(a); fl=f[o]; o+=1
        def s(o):
            n=sh=0
            while True:
                b=f[o]; o+=1; n|=(b&127)<<sh; sh+=7
                if b<128: break
            return f[o:o+n].decode('utf8','replace'), o+n
        nm,o=s(o); tag=''
        if fl&2: tag,o=s(o)
        return nm,tag,bool(fl&8)
    def parse(self,a):
        f=self.f; u=struct.unpack_from; o=self.off(a)
        size,_,_,tflag,_,_,kind,_,_,st,ptr=u('<QQIBBBBQQii',f,o)
        kind=KINDS.get(kind&31,'?')
        nm=self.name(self.types+st)[0]
        if tflag&2: nm=nm[1:]
        t={'addr':a,'kind':kind,'name':nm,'named':bool(tflag&4),'pkg':'','refs':[]}
        if ptr: t['refs'].append(self.types+ptr)
        extra=48
        if kind=='struct':
            pp,fp,fn,_=u('<QQQQ',f,o+48); extra=80; t['fields']=[]
            fo=self.off(fp) if fn else 0
            for i in range(fn):
                n,ty,_=u('<QQQ',f,fo+24*i); nn,tag,emb=self.name(n)
                t['fields'].append((nn,ty,tag,emb)); t['refs'].append(ty)
        elif kind in('ptr','slice'):
            e=u('<Q',f,o+48)[0]; t['elem']=e; t['refs'].append(e); extra=56
        elif kind=='array':
            e=u('<Q',f,o+48)[0]; t['elem']=e; t['refs'].append(e); extra=72
        elif kind=='map':
            k,e=u('<QQ',f,o+48); t['key']=k; t['elem']=e; t['refs']+=[k,e]; extra=None
        elif kind=='func': extra=56
        elif kind=='interface': extra=80
        elif kind=='chan': extra=64
        if tflag&1 and extra is not None:
            pk=u('<i',f,o+extra)[0]
            if pk: t['pkg']=self.name(self.types+pk)[0]
        return t
    def show(self,a):
        t=self.cache.get(a)
        if t is None: return '?'
        k=t['kind']
        if t['named'] : return (t['pkg']+'.' if t['pkg'] else '')+t['name'].split('.')[-1]
        if k=='ptr': return '*'+self.show(t['elem'])
        if k=='slice': return '[]'+self.show(t['elem'])
        if k=='map': return 'map['+self.show(t['key'])+']'+self.show(t['elem'])
        return t['name']
